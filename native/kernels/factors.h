// The small matrices of adapters: what is folded into them, and its gradients.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// out[rows, active] = weight scale b_gain_i B_ij d_j mask_j row_gain_i, with B [rows, rank]; null factors are ones.
struct Fold {
  static constexpr const char* kName = "fold";
  int64_t rows, rank, active;
  float scale, weight;
  Ptr<float> b, d, mask, b_gain, row_gains, out;
  void reads(Operands& see) const {
    see.reads(f32_matrix(b, rank), rows, active);
    see.reads(d, active);
    see.reads(mask, active);
    see.reads(b_gain, rows);
    see.reads(row_gains, rows);
  }
  void operands(Operands& see) const {
    reads(see);
    see.writes(out, rows * active);
  }
};

/// Propagates the gradient at the folded matrix, g [rows, active], to B, d, and b_gain, adding to existing gradients.
struct FoldGradient {
  static constexpr const char* kName = "fold_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t rows, rank, active;
  float scale;
  Ptr<float> b, d, mask, b_gain, g, db, dd, dgain;
  void operands(Operands& see) const {
    if (dd || dgain) see.reads(f32_matrix(b, rank), rows, active);
    if (db || dgain) see.reads(d, active);
    if (db || dd) see.reads(b_gain, rows);
    see.reads(mask, active);
    see.reads(g, rows * active);
    see.adds(f32_matrix(db, rank), rows, active);
    see.adds(dd, active);
    see.adds(dgain, rows);
  }
};

/// out[rows, 2 rank] = own B and taken B*, side by side, times row_gains if given.
struct FoldSnapshot {
  static constexpr const char* kName = "fold_snapshot";
  int64_t rows, rank;
  float own, taken;
  Ptr<float> b, star, row_gains, out;
  void operands(Operands& see) const {
    see.reads(b, rows * rank);
    see.reads(star, rows * rank);
    see.reads(row_gains, rows);
    see.writes(out, 2 * rows * rank);
  }
};

/// Two low-rank products, b a and b2 a2, both [rows, cols], to be combined as a Hadamard product.
struct Pair {
  int64_t rows, cols, rank, rank2;
  Ptr<float> b, a, b2, a2;

  void reads(Operands& see) const {
    see.reads(b, rows * rank);
    see.reads(a, rank * cols);
    see.reads(b2, rows * rank2);
    see.reads(a2, rank2 * cols);
  }
  double multiply_adds() const { return product_adds(rows, cols, rank + rank2); }
  Pair from(int64_t begin, int64_t count) const {
    return {count, cols, rank, rank2, b + begin * rank, a, b2 + begin * rank2, a2};
  }
};

/// A[i r2 + j] = a[i] . a2[j], [r1 r2, cols].
struct BuildPairA {
  static constexpr const char* kName = "build_pair_a";
  Pair pair;
  Ptr<float> out;
  void operands(Operands& see) const {
    see.reads(pair.a, pair.rank * pair.cols);
    see.reads(pair.a2, pair.rank2 * pair.cols);
    see.writes(out, pair.rank * pair.rank2 * pair.cols);
  }
};

/// out[o, i r2 + j] = weight scale row_gain_o b[o, i] b2[o, j].
struct FoldPair {
  static constexpr const char* kName = "fold_pair";
  Pair pair;
  float scale, weight;
  Ptr<float> row_gains, out;
  void operands(Operands& see) const {
    see.reads(pair.b, pair.rows * pair.rank);
    see.reads(pair.b2, pair.rows * pair.rank2);
    see.reads(row_gains, pair.rows);
    see.writes(out, pair.rows * pair.rank * pair.rank2);
  }
};

/// Propagates the gradient at A to a and a2, adding to existing gradients.
struct SpreadPairA {
  static constexpr const char* kName = "spread_pair_a";
  Pair pair;
  Ptr<float> g, da, da2;
  void operands(Operands& see) const {
    if (da2) see.reads(pair.a, pair.rank * pair.cols);
    if (da) see.reads(pair.a2, pair.rank2 * pair.cols);
    see.reads(g, pair.rank * pair.rank2 * pair.cols);
    see.adds(da, pair.rank * pair.cols);
    see.adds(da2, pair.rank2 * pair.cols);
  }
};

/// Propagates the gradient at the folded B to b and b2, adding to existing gradients.
struct SpreadPairB {
  static constexpr const char* kName = "spread_pair_b";
  Pair pair;
  float scale;
  Ptr<float> row_gains, g, db, db2;
  void operands(Operands& see) const {
    if (db2) see.reads(pair.b, pair.rows * pair.rank);
    if (db) see.reads(pair.b2, pair.rows * pair.rank2);
    see.reads(row_gains, pair.rows);
    see.reads(g, pair.rows * pair.rank * pair.rank2);
    see.adds(db, pair.rows * pair.rank);
    see.adds(db2, pair.rows * pair.rank2);
  }
};

}  // namespace lowrank
