// All kernels of all areas.
#pragma once

#include "backends/cuda/attention.h"
#include "backends/cuda/dequantize.h"
#include "backends/cuda/flash.h"
#include "backends/cuda/gemm.h"

/// X(kernel, Args) for every kernel.
#define LOWRANK_ALL_KERNELS(X)     \
  LOWRANK_ATTENTION_KERNELS(X)     \
  LOWRANK_DEQUANTIZE_KERNELS(X)    \
  LOWRANK_FLASH_KERNELS(X)         \
  LOWRANK_GEMM_F32_KERNELS(X)      \
  LOWRANK_GEMM_FOUR_BIT_KERNELS(X) \
  LOWRANK_GEMM_KERNELS(X)          \
  LOWRANK_GEMV_KERNELS(X)
