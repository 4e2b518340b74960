// Kernels of the small matrices of adapters: what is folded into them, and its gradients.
#pragma once

#include "kernel.h"
#include "pair.h"

namespace lowrank::cuda {

struct FoldArgs {
  int64_t rows, rank, active;
  float scale, weight;
  const float *b, *d, *mask, *b_gain, *row_gains;
  float* out;
};

/// Gradients row by row; those of d in parts, of `stretch` rows each.
struct FoldGradientArgs {
  int64_t rows, rank, active, stretch;
  const float *b, *d, *mask, *b_gain, *g;
  float *db, *parts, *dgain;
  float scale;
  int32_t unused = 0;
};

struct FoldSnapshotArgs {
  int64_t rows, rank;
  float own, taken;
  const float *b, *star, *row_gains;
  float* out;
};

struct PairFactorArgs : PairOperands {
  float scale, weight;
  const float *row_gains, *g;
  float *out, *first, *second;  // the gradients of the first and of the second product's factor
};

#define LOWRANK_FACTORS_KERNELS(X)            \
  X(fold, FoldArgs)                           \
  X(fold_gradient, FoldGradientArgs)          \
  X(fold_gradient_of_ranks, FoldGradientArgs) \
  X(fold_snapshot, FoldSnapshotArgs)          \
  X(build_pair_a, PairFactorArgs)             \
  X(fold_pair, PairFactorArgs)                \
  X(spread_pair_a, PairFactorArgs)            \
  X(spread_pair_b, PairFactorArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_FACTORS_KERNELS)

}  // namespace lowrank::cuda
