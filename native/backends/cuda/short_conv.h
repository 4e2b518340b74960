// Convolutions within columns: out = C conv(B X), or out = silu(conv(x)) if they are not gated.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

/// The convolution: w [cols, taps], the last for the row itself; bias [cols] or null. A row reads others at lags up to
/// its position. Those before the first are in `earlier` [taps - 1, cols], at their position modulo taps - 1.
struct ConvArgs {
  const float *w, *bias;
  const int32_t* positions;
  Cells b, c, x;  // x alone if it is not gated
  const float* earlier;
  int64_t rows, cols;
  int32_t taps;
  int32_t gated;
};
struct ShortConvArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells out;
};
struct SiluConvSlopeArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells dout, dconv;
};
struct ShortConvBackwardArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells dout, db, dc, dx;  // dx alone if it is not gated
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
  Cells b, x;  // x alone if it is not gated
  float *last, *ends;
  int64_t block, count, gated;
};

#define LOWRANK_SHORT_CONV_KERNELS(X)           \
  X(short_conv, ShortConvArgs)                  \
  X(silu_conv_slope, SiluConvSlopeArgs)         \
  X(short_conv_backward, ShortConvBackwardArgs) \
  X(short_conv_sums, ConvSumsArgs)              \
  X(keep_conv_inputs, KeepConvInputsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_SHORT_CONV_KERNELS)

}  // namespace lowrank::cuda
