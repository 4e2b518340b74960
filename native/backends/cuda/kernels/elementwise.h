// Kernels that treat elements one by one.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

struct RopeArgs {
  Tiles tiles;             // of pairs: heads * half columns
  int32_t half, head_dim;  // pairs of a head, and its columns
  Cells x;
  const int32_t* positions;
  const float *cos, *sin;
  int32_t inverse;
  int32_t unused = 0;
};
/// Row i of `to` and row rows[i] of `from`, or with scatter_add_rows the other way; without rows i.
struct PickRowsArgs {
  Tiles tiles;
  Cells from;
  const int32_t* rows;
  Cells to;
};
struct CastArgs {
  int64_t count;
  const float* from;
  uint16_t* to;
};
struct AddConstantArgs {
  int64_t count;
  float* to;
  float value;
  int32_t unused = 0;
};
/// Draws below the threshold drop their element.
struct DropoutArgs {
  Tiles tiles;
  Cells x;
  uint64_t base;
  uint32_t threshold;
  float scale;
  Cells to;
};
/// Noise for the rows of one sequence, the first of which is `first_row` of the draws.
struct AddNoiseArgs {
  Tiles tiles;
  Cells y;
  int64_t first_row;
  uint64_t base;
  float bound;
  int32_t unused = 0;
};
struct ScaleColumnsArgs {
  Tiles tiles;
  Cells x;
  const float *gain, *bias;
  Cells addend;  // of null data: none
  Cells y;
};

#define LOWRANK_ELEMENTWISE_KERNELS(X)      \
  X(rope, RopeArgs)                         \
  X(gather_rows, PickRowsArgs)              \
  X(scatter_add_rows, PickRowsArgs)         \
  X(cast_bf16, CastArgs)                    \
  X(add_constant, AddConstantArgs)          \
  X(dropout, DropoutArgs)                   \
  X(dropout_backward, DropoutArgs)          \
  X(add_noise, AddNoiseArgs)                \
  X(scale_columns, ScaleColumnsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_ELEMENTWISE_KERNELS)

}  // namespace lowrank::cuda
