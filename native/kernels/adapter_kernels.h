// Kernels for adapters, as values; see kernels/kernels.h.
#pragma once

#include <cstdint>

#include "kernels/operands.h"

namespace lowrank {

/// out[rows, active] = weight scale b_gain_i B_ij d_j mask_j row_gain_i, with B [rows, rank]; null factors are ones.
struct Fold {
  static constexpr const char* kName = "fold";
  int64_t rows, rank, active;
  float scale, weight;
  Ptr<float> b, d, mask, b_gain, row_gains, out;
  void operands(Operands& see) const;
};
/// Propagates the gradient at the folded matrix, g [rows, active], to B, d, and b_gain, adding to existing gradients.
struct FoldGradient {
  static constexpr const char* kName = "fold_gradient";
  int64_t rows, rank, active;
  float scale;
  Ptr<float> b, d, mask, b_gain, g, db, dd, dgain;
  void operands(Operands& see) const;
};
/// out[rows, 2 rank] = own B and taken B*, side by side, times row_gains if given.
struct FoldSnapshot {
  static constexpr const char* kName = "fold_snapshot";
  int64_t rows, rank;
  float own, taken;
  Ptr<float> b, star, row_gains, out;
  void operands(Operands& see) const;
};

/// Two low-rank products, b a and b2 a2, both [rows, cols], to be combined as a Hadamard product.
struct Pair {
  int64_t rows, cols, rank, rank2;
  Ptr<float> b, a, b2, a2;

  void reads(Operands& see) const;
  Pair from(int64_t begin, int64_t count) const {
    return {count, cols, rank, rank2, b + begin * rank, a, b2 + begin * rank2, a2};
  }
};
/// A[i r2 + j] = a[i] . a2[j], [r1 r2, cols].
struct BuildPairA {
  static constexpr const char* kName = "build_pair_a";
  Pair pair;
  Ptr<float> out;
  void operands(Operands& see) const;
};
/// out[o, i r2 + j] = weight scale row_gain_o b[o, i] b2[o, j].
struct FoldPair {
  static constexpr const char* kName = "fold_pair";
  Pair pair;
  float scale, weight;
  Ptr<float> row_gains, out;
  void operands(Operands& see) const;
};
/// Propagates the gradient at A to a and a2, adding to existing gradients.
struct SpreadPairA {
  static constexpr const char* kName = "spread_pair_a";
  Pair pair;
  Ptr<float> g, da, da2;
  void operands(Operands& see) const;
};
/// Propagates the gradient at the folded B to b and b2, adding to existing gradients.
struct SpreadPairB {
  static constexpr const char* kName = "spread_pair_b";
  Pair pair;
  float scale;
  Ptr<float> row_gains, g, db, db2;
  void operands(Operands& see) const;
};
/// out = base + scale row_gain_o (b a) . (b2 a2), dense fp32; an empty base counts as 0.
struct AddPair {
  static constexpr const char* kName = "add_pair";
  Pair pair;
  Factor base;
  float scale;
  Ptr<float> row_gains, out;
  void operands(Operands& see) const;
};
/// The gradients at the two products, from g at their Hadamard product; that of b a is written in place of g.
struct SplitPair {
  static constexpr const char* kName = "split_pair";
  Pair pair;
  Ptr<float> row_gains, g, second;
  void operands(Operands& see) const;
};
/// Row gains of an update under dropout: 0 where dropped, else 1, or 1 / (1 - p) with rescaling.
struct DrawRows {
  static constexpr const char* kName = "draw_rows";
  int64_t rows;
  float drop_row, drop_all;
  bool rescale;
  uint64_t key;
  Ptr<float> gains;
  void operands(Operands& see) const;
};

/// out[i] = ||W_i||^2.
struct RowSquares {
  static constexpr const char* kName = "row_squares";
  Factor w;
  Ptr<double> out;
  void operands(Operands& see) const;
};
/// out [rank, rank] = A A^T.
struct Gram {
  static constexpr const char* kName = "gram";
  int64_t rank, cols;
  Ptr<float> a;
  int64_t ld;
  Ptr<double> out;
  void operands(Operands& see) const;
};
/// out[i] = ||W_i + B_i A||, from the squares of W, the products A W^T [rank, rows] and the Gram matrix of A.
struct AdaptedRowNorms {
  static constexpr const char* kName = "row_norms";
  Factor w;
  Ptr<float> a;
  int64_t a_ld;
  Ptr<float> b;
  int64_t rank;
  Ptr<double> squares;
  Ptr<float> products;
  Ptr<double> gram;
  Ptr<float> out;
  void operands(Operands& see) const;
};
/// gain[i] += weight m[i] / c[i].
struct AddRatios {
  static constexpr const char* kName = "add_ratios";
  int64_t rows;
  float weight;
  Ptr<float> m, c, gain;
  void operands(Operands& see) const;
};
/// over[i] = (m[i] / c[i]) / gain[i], or 1 / gain[i] if m is null; a zero gain is first replaced by one too small to
/// affect any sum.
struct RatiosOver {
  static constexpr const char* kName = "ratios_over";
  int64_t rows;
  Ptr<float> m, c, gain, over;
  void operands(Operands& see) const;
};
/// gain[i] = m[i] / c[i], and share[i] = 1 / m[i] (0 for 0) if the scaled output is available, else 1 / c[i].
struct MagnitudeGains {
  static constexpr const char* kName = "magnitude_gains";
  int64_t rows;
  Ptr<float> m, c;
  bool of_scaled;
  Ptr<float> gain, share;
  void operands(Operands& see) const;
};

/// moment [rank, rank] += sum over tokens of h h^T.
struct SecondMoment {
  static constexpr const char* kName = "second_moment";
  int64_t tokens, rank;
  Matrix h;
  Ptr<double> moment;
  void operands(Operands& see) const;
};
/// h[t, j] = a[j, ids[t]].
struct GatherColumns {
  static constexpr const char* kName = "gather_columns";
  int64_t tokens;
  Ptr<int32_t> ids;
  int64_t ranks, vocab;
  Ptr<float> a, h;
  void operands(Operands& see) const;
};
/// da[j, ids[t]] += dh[t, j] for j from `first`.
struct ScatterColumns {
  static constexpr const char* kName = "scatter_columns";
  int64_t tokens;
  Ptr<int32_t> ids;
  int64_t first, ranks, vocab;
  Ptr<float> dh, da;
  void operands(Operands& see) const;
};

}  // namespace lowrank
