// Kernels of normalization by the root mean square.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

struct RmsNormArgs {
  int64_t rows, cols;
  const void* x;
  int64_t x_ld;
  const float* w;
  float eps;
  void* y;
  int64_t y_ld;
  float* rstd;
};

// By the types of x and y.
#define LOWRANK_NORM_KERNELS(X)    \
  X(rms_norm_f32_f32, RmsNormArgs)  \
  X(rms_norm_f32_bf16, RmsNormArgs) \
  X(rms_norm_bf16_bf16, RmsNormArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_NORM_KERNELS)

}  // namespace lowrank::cuda
