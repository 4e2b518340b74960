// All kernels of all areas.
#pragma once

#include "backends/cuda/dequantize.h"
#include "backends/cuda/gemm.h"

/// X(kernel, Args) for every kernel.
#define LOWRANK_ALL_KERNELS(X)     \
  LOWRANK_DEQUANTIZE_KERNELS(X)    \
  LOWRANK_GEMM_F32_KERNELS(X)      \
  LOWRANK_GEMM_FOUR_BIT_KERNELS(X) \
  LOWRANK_GEMM_KERNELS(X)          \
  LOWRANK_GEMV_KERNELS(X)
