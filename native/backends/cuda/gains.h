// Factors of rows: magnitudes over norms, and draws of rows under dropout.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

struct DrawRowsArgs {
  int64_t rows;
  float drop_row, drop_all;
  int64_t rescale;
  uint64_t key;  // mixed
  float* gains;
};
struct RatiosArgs {
  int64_t rows;
  const float *m, *c;
  float *gain, *over;
  float weight;
  int32_t unused = 0;
};
struct MagnitudeGainsArgs {
  int64_t rows;
  const float *m, *c;
  int64_t of_scaled;
  float *gain, *share;
};
inline constexpr int kDrawThreads = 1024, kGainThreads = 256;

#define LOWRANK_GAIN_KERNELS(X) \
  X(draw_rows, DrawRowsArgs)    \
  X(add_ratios, RatiosArgs)     \
  X(ratios_over, RatiosArgs)    \
  X(magnitude_gains, MagnitudeGainsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_GAIN_KERNELS)

}  // namespace lowrank::cuda
