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

/// Rows of a tile, terms that are added at a time.
inline constexpr int kProductRows = 64, kProductTerms = 16;
constexpr int product_threads(int cols) { return kProductRows * cols / 16; }

}  // namespace lowrank::cuda
