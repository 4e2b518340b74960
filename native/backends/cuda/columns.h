// Sums over the rows of each column, in two stages: of stretches of rows, then over the stretches in order.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

/// partial[stretch, col] = sum over the stretch's rows of dy (times x) (times rstd of the row).
struct ColumnSumsArgs {
  int64_t rows, groups, cols, stretches;  // a group of a row's columns is a row of its own; dx and gain have one group
  Cells dy;
  Cells x;            // of null data: none
  const float* rstd;  // [rows]; null: ones
  // If dx has data: dx = dy gain; dx and dy may be the same memory.
  const float* gain;
  Cells dx;
  float* partial;
};
/// to[col] += share[col] * the sum of the stretches; null share: ones.
struct AddColumnSumsArgs {
  int64_t cols, stretches;
  const float *partial, *share;
  float* to;
};
inline constexpr int kSumThreads = 256, kSumColumns = 256;

#define LOWRANK_COLUMN_KERNELS(X) \
  X(column_sums, ColumnSumsArgs)  \
  X(add_column_sums, AddColumnSumsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_COLUMN_KERNELS)

}  // namespace lowrank::cuda
