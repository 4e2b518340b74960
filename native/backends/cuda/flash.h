// Attention of bf16 operands on matrix units, tile by tile (FlashAttention-2, Dao 2023, arXiv 2307.08691).
#pragma once

#include "attention.h"

namespace lowrank::cuda {

/// Rows of a block and of the other side at a time, for heads of at most `dim` columns.
struct FlashShape {
  int dim, rows, inner, stages;

  /// Bytes of shared memory: `own` matrices of rows, one in the forward pass and else two, and two of the other side.
  constexpr int64_t bytes(int own) const {
    return int64_t{2} * dim * (own * rows + 2 * stages * inner) + (own == 2 ? 8 * stages * inner : 0);
  }
};
inline constexpr FlashShape kFlash[] = {{64, 128, 64, 2}, {128, 128, 64, 2}, {256, 64, 32, 2}};
inline constexpr FlashShape kFlashBackward[] = {{64, 64, 64, 2}, {128, 64, 32, 2}, {256, 64, 32, 1}};
/// Columns of the gradients that a block of keys sums at a time.
inline constexpr int kFlashGradientCols = 128;

}  // namespace lowrank::cuda
