// Products with a Kronecker product C (x) D, [l k, p q], that is never made: x [tokens, p q] is seen as matrices
// X [p, q], and the product is C X D^T [l, k] of each.
#pragma once

#include <algorithm>

#include "kernels/operands.h"

namespace lowrank {

/// Sides of a Kronecker product of C [l, p] and D [k, q]; with r > 0 D is a product of [k, r] and [r, q].
struct KroneckerShape {
  int64_t l = 0, p = 0, k = 0, q = 0, r = 0;

  int64_t out() const { return l * k; }
  int64_t in() const { return p * q; }
  int64_t d_elements() const { return r > 0 ? k * r : k * q; }
  int64_t d2_elements() const { return r * q; }
  /// True if C X takes fewer multiplications before D than after it.
  bool mixes_first() const {
    const int64_t through_d = r > 0 ? r * (q + k) : q * k;
    return l * p * q + l * through_d < p * through_d + l * p * k;
  }
  /// Of a token, with D as one matrix.
  double multiply_adds() const {
    return std::min(product_adds(p, q, k) + product_adds(l, p, k), product_adds(l, p, q) + product_adds(l, q, k));
  }
};

/// The factors, f32: c and D, which is d, or d times d2.
struct KroneckerPair {
  KroneckerShape shape;
  Ptr<float> c, d, d2;

  void reads(Operands& see) const {
    see.reads(c, shape.l * shape.p);
    see.reads(d, shape.d_elements());
    see.reads(d2, shape.d2_elements());
  }
};

/// out[t] = residual[t] + scale gains . ((C (x) D) x[t]); x an operand, out and residual f32. The residual may be out
/// itself, or null, as may the gains [l k].
struct Kronecker {
  static constexpr const char* kName = "kronecker";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens;
  KroneckerPair pair;
  float scale;
  Ptr<float> gains;
  Matrix x;
  Ptr<float> residual, out;
  double multiply_adds() const { return static_cast<double>(tokens) * pair.shape.multiply_adds(); }
  void operands(Operands& see) const {
    pair.reads(see);
    see.reads(x, tokens, pair.shape.in());
    see.reads(residual, tokens * pair.shape.out());
    see.reads(gains, pair.shape.out());
    see.writes(out, tokens * pair.shape.out());
  }
};

/// Adds the gradients of the factors, and adds to dx f32 or overwrites it with that of x; all of them may be null.
struct KroneckerBackward {
  static constexpr const char* kName = "kronecker_backward";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens;
  KroneckerPair pair;
  float scale;
  Ptr<float> gains;
  Matrix x, dy;
  Ptr<float> dc, dd, dd2, dx;
  bool adds_dx;
  /// That of x, and of both factors.
  double multiply_adds() const { return (dx ? 3.0 : 2.0) * static_cast<double>(tokens) * pair.shape.multiply_adds(); }
  void operands(Operands& see) const {
    pair.reads(see);
    see.reads(x, tokens, pair.shape.in());
    see.reads(dy, tokens, pair.shape.out());
    see.reads(gains, pair.shape.out());
    see.adds(dc, pair.shape.l * pair.shape.p);
    see.adds(dd, pair.shape.d_elements());
    see.adds(dd2, pair.shape.d2_elements());
    adds_dx ? see.adds(dx, tokens * pair.shape.in()) : see.writes(dx, tokens * pair.shape.in());
  }
};

/// c [l, p] = a [l, rank] b [rank, p].
struct KroneckerC {
  static constexpr const char* kName = "kronecker_c";
  int64_t l, rank, p;
  Ptr<float> a, b, c;
  void operands(Operands& see) const {
    see.reads(a, l * rank);
    see.reads(b, rank * p);
    see.writes(c, l * p);
  }
};

/// Propagates the gradient at c to a and b, adding to existing gradients.
struct SpreadKroneckerC {
  static constexpr const char* kName = "spread_kronecker_c";
  int64_t l, rank, p;
  Ptr<float> a, b, g, da, db;
  void operands(Operands& see) const {
    if (db) see.reads(a, l * rank);
    if (da) see.reads(b, rank * p);
    see.reads(g, l * p);
    see.adds(da, l * rank);
    see.adds(db, rank * p);
  }
};

}  // namespace lowrank
