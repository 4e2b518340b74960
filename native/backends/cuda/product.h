// Products of small or strided fp32 and bf16 matrices with sums in fp32, for adapters whose matrices no row-major
// product fits: Kronecker factors and rotations of blocks.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// Element of a stack of matrices: batch, row, and the place in the reduction, which may have two strides, as rows may:
/// row r lies at r / group high + r % group low.
struct Strided {
  void* data;
  int32_t bf16;
  int32_t unused = 0;
  int64_t batch, group, high, low, outer, inner;
};

/// out[z, i, j] = alpha gains sum over (o, c) of a[z, i, o, c] b[z, j, o, c] + addend + diagonal (i == j), o < outer
/// and c < inner. A block adds `stretch` terms; with more than one stretch each has a result of its own. In results and
/// addends `inner` is the stride of columns and `outer` that of stretches.
struct StridedProductArgs {
  int64_t batches, m, n, outer, inner, stretch, stretches;
  Strided a, b, out, addend;
  const float* gains;  // of dense results with rows of `gain_count` elements, or null
  int64_t gain_count;
  float alpha, diagonal;
};

/// out[row, c] = scale gains[c] x[row, c], fp32 and dense.
struct ScaledArgs {
  int64_t rows, cols;
  const void* x;
  int64_t ld;
  int32_t bf16;
  float scale;
  const float* gains;
  float* out;
};

/// out [blocks, size, size] = factor Q + diagonal I, Q being skew-symmetric with the upper triangles `skew`.
struct SkewArgs {
  int64_t blocks, size;
  const float* skew;
  float factor, diagonal;
  float* out;
};
/// dskew += the gradients of the upper triangles from those at Q.
struct SkewGradientArgs {
  int64_t blocks, size;
  const float* dq;
  float* dskew;
};

/// c [l, p] = a [l, rank] b [rank, p], and its gradients.
struct FactorArgs {
  int64_t l, rank, p;
  const float *a, *b;
  float* c;
  const float* g;
  float *da, *db;
};

/// Rows of a tile, terms that are added at a time.
inline constexpr int kProductRows = 64, kProductTerms = 16;
constexpr int product_threads(int cols) { return kProductRows * cols / 16; }

// Products by the columns of a tile.
#define LOWRANK_PRODUCT_KERNELS(X)   \
  X(product_64, StridedProductArgs)  \
  X(product_16, StridedProductArgs)  \
  X(scaled, ScaledArgs)              \
  X(skew_matrix, SkewArgs)           \
  X(skew_gradient, SkewGradientArgs) \
  X(multiply_factors, FactorArgs)    \
  X(spread_over_factors, FactorArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_PRODUCT_KERNELS)

}  // namespace lowrank::cuda
