// Row norms of an adapted weight, c_i = ||W_i + B_i A||, without the matrix B A: what divides the rows of a linear
// whose adapter has a magnitude (DoRA, arXiv 2402.09353, eq. 5). All sums are in double.
#pragma once

#include <cstdint>

#include "core/pool.h"
#include "quant/weight.h"

namespace lowrank::cpu {

/// out[i] = ||W_i||^2 of every row.
void row_squares(Pool& pool, const WeightView& w, double* out);

/// out [rank, rank] = A A^T; `a` has `ld` elements from row to row.
void gram_of_rows(Pool& pool, const float* a, int64_t rank, int64_t cols, int64_t ld, double* out);

/// Parts of the norms of W + B A.
struct AdaptedRows {
  WeightView w;              // [out, in]
  const float* a = nullptr;  // [rank, in], a_ld elements from row to row
  int64_t a_ld = 0;
  const float* b = nullptr;  // [out, rank], with every factor folded in
  int64_t rank = 0;
  const double* squares = nullptr;  // [out] ||W_i||^2
  const float* products = nullptr;  // [rank, out] A W^T
  const double* gram = nullptr;     // [rank, rank] A A^T
};

/// out[i] = sqrt(||W_i||^2 + 2 B_i (W A^T)_i + B_i (A A^T) B_i^T). Where B_i A takes away more than nine tenths of the
/// row, the difference of large numbers has lost its digits, and the row itself is formed, a piece at a time. At least
/// 1e-15, so that it divides.
void row_norms(Pool& pool, const AdaptedRows& rows, float* out);

}  // namespace lowrank::cpu
