// Loops over an adapter's factors in memory, shared by the CPU kernels and merging.
#pragma once

#include <cstdint>

namespace lowrank {

/// B [rows, rank] with everything that scales it, using the first `active` columns; null factors mean ones.
struct ScaledB {
  int64_t rank, active;
  float scale, weight;
  const float *b, *d, *mask, *b_gain, *row_gains;
};
/// out[i, j] = weight scale b_gain_i B_ij d_j mask_j row_gain_i for rows i from `begin` to `end`.
void fold_rows(const ScaledB& factors, int64_t begin, int64_t end, float* out);

/// B and its snapshot B*, both [rows, rank].
struct SnapshotB {
  int64_t rank;
  float own, taken;
  const float *b, *star, *row_gains;
};
/// out[i] = row_gain_i (own B_i, taken B*_i), side by side.
void fold_snapshot_rows(const SnapshotB& factors, int64_t begin, int64_t end, float* out);

/// Rows [begin, end) of A[i r2 + j] = a[i] . a2[j], [r1 r2, cols].
void pair_a_rows(const float* a, const float* a2, int64_t rank2, int64_t cols, int64_t begin, int64_t end, float* out);

/// The left factors of a Hadamard product, [rows, rank] and [rows, rank2].
struct PairB {
  int64_t rank, rank2;
  float scale, weight;
  const float *b, *b2, *row_gains;
};
/// out[o, i r2 + j] = weight scale row_gain_o b[o, i] b2[o, j].
void fold_pair_rows(const PairB& factors, int64_t begin, int64_t end, float* out);

/// out[rows, cols] = a[rows, inner] b[inner, cols], with sums in double.
void multiply_small(int64_t rows, int64_t inner, int64_t cols, const float* a, const float* b, float* out);

}  // namespace lowrank
