// Kernels of normalization by the root mean square.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

/// A group of columns of a row belongs to a warp, or where `whole_block` is set to a block.
struct RmsNormArgs {
  int64_t rows, groups, cols;
  int32_t whole_block;
  float eps;
  Cells x;
  const float* w;
  Cells y;
  float* rstd;
};
struct RmsNormBackwardArgs {
  int64_t rows, groups, cols;
  int32_t whole_block;
  int32_t adds;  // to dx
  Cells dy, x;
  const float *w, *rstd;
  Cells dx;
};
inline constexpr int kNormThreads = 256;

#define LOWRANK_NORM_KERNELS(X) \
  X(rms_norm, RmsNormArgs)      \
  X(rms_norm_backward, RmsNormBackwardArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_NORM_KERNELS)

}  // namespace lowrank::cuda
