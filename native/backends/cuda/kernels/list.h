// All kernels of all areas.
#pragma once

#include "backends/cuda/kernels/adafactor.h"
#include "backends/cuda/kernels/attention.h"
#include "backends/cuda/kernels/columns.h"
#include "backends/cuda/kernels/delta_rule.h"
#include "backends/cuda/kernels/dequantize.h"
#include "backends/cuda/kernels/factors.h"
#include "backends/cuda/kernels/flash.h"
#include "backends/cuda/kernels/gains.h"
#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/loss.h"
#include "backends/cuda/kernels/product.h"
#include "backends/cuda/kernels/projection.h"
#include "backends/cuda/kernels/row_norms.h"
#include "backends/cuda/kernels/rows_by_id.h"
#include "backends/cuda/kernels/short_conv.h"
#include "backends/cuda/kernels/updates.h"

/// X(kernel, Args) for every kernel.
#define LOWRANK_ALL_KERNELS(X)     \
  LOWRANK_ADAFACTOR_KERNELS(X)     \
  LOWRANK_ATTENTION_KERNELS(X)     \
  LOWRANK_COLUMN_KERNELS(X)        \
  LOWRANK_DELTA_RULE_KERNELS(X)    \
  LOWRANK_DEQUANTIZE_KERNELS(X)    \
  LOWRANK_FACTORS_KERNELS(X)       \
  LOWRANK_FLASH_KERNELS(X)         \
  LOWRANK_GAIN_KERNELS(X)          \
  LOWRANK_GEMM_F32_KERNELS(X)      \
  LOWRANK_GEMM_FOUR_BIT_KERNELS(X) \
  LOWRANK_GEMM_KERNELS(X)          \
  LOWRANK_GEMV_KERNELS(X)          \
  LOWRANK_ID_KERNELS(X)            \
  LOWRANK_LOSS_KERNELS(X)          \
  LOWRANK_PRODUCT_KERNELS(X)       \
  LOWRANK_PROJECTION_KERNELS(X)    \
  LOWRANK_ROW_NORMS_KERNELS(X)     \
  LOWRANK_SHORT_CONV_KERNELS(X)    \
  LOWRANK_UPDATE_KERNELS(X)
