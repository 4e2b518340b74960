// Sums and copies of rows or columns that are picked by ids of tokens.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

/// table[ids[t], col] += dy[t, col], in the order of the tokens.
struct EmbeddingGradientArgs {
  int64_t tokens, cols;
  const int32_t* ids;
  Cells dy;
  float* table;
};
struct GatherColumnsArgs {
  int64_t tokens, ranks, vocab;
  const int32_t* ids;
  const float* a;
  float* h;
};
/// a[j, ids[t]] += h[t, j] for j from `first`, in the order of the tokens.
struct ScatterColumnsArgs {
  int64_t tokens, first, ranks, vocab;
  const int32_t* ids;
  const float* h;
  float* a;
};
inline constexpr int kIdThreads = 256;

#define LOWRANK_ID_KERNELS(X)                  \
  X(embedding_gradient, EmbeddingGradientArgs) \
  X(gather_columns, GatherColumnsArgs)         \
  X(scatter_columns, ScatterColumnsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_ID_KERNELS)

}  // namespace lowrank::cuda
