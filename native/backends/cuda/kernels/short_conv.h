// Gated convolutions within columns: out = C conv(B X).
#pragma once

#include "cells.h"

namespace lowrank::cuda {

/// The convolution: w [cols, taps], the last for the row itself; bias [cols] or null. A row reads others at lags up to its
/// position. Those before the first are in `earlier` [taps - 1, cols], at their position modulo taps - 1.
struct ConvArgs {
  const float *w, *bias;
  const int32_t* positions;
  Cells b, c, x;
  const float* earlier;
  int64_t rows, cols;
  int32_t taps;
  int32_t unused = 0;
};
struct ShortConvArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells out;
};
struct ShortConvBackwardArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells dout, db, dc, dx;
};
/// Sums over stretches of rows: of weights [stretches, cols, taps], of biases [stretches, cols]. A block's third number
/// plus `first` is the lag whose weights it sums; `taps` for the biases.
struct ConvSumsArgs {
  ConvArgs conv;
  Cells dout;
  int64_t stretches, first;
  float *weights, *biases;
};
/// See KeepConvInputs; `ends` is that of the first block.
struct KeepConvInputsArgs {
  Tiles tiles;
  const int32_t* positions;
  Cells b, x;
  float *last, *ends;
  int64_t block, count;
};

#define LOWRANK_SHORT_CONV_KERNELS(X)           \
  X(short_conv, ShortConvArgs)                  \
  X(short_conv_backward, ShortConvBackwardArgs) \
  X(short_conv_sums, ConvSumsArgs)              \
  X(keep_conv_inputs, KeepConvInputsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_SHORT_CONV_KERNELS)

}  // namespace lowrank::cuda
