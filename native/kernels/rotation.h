// Rotations of blocks of columns, made from skew-symmetric matrices by the Cayley-Neumann series
// (core/cayley_neumann.h).
#pragma once

#include "core/cayley_neumann.h"
#include "kernels/operands.h"

namespace lowrank {

/// The block-diagonal D such that I + D is nearly orthogonal: each block is a Cayley-Neumann series of the
/// skew-symmetric matrix whose upper triangle is a row of `skew` [blocks, size (size - 1) / 2]. `whole`: I + D;
/// `inverse`: the transpose.
struct CayleyNeumann {
  static constexpr const char* kName = "cayley_neumann";
  static constexpr bool kNeedsRoom = true;
  Blocks shape;
  int32_t terms;
  bool inverse, whole;
  Ptr<float> skew, out;
  void operands(Operands& see) const {
    see.reads(skew, shape.blocks * shape.skew_elements());
    see.writes(out, shape.blocks * shape.elements());
  }
};

/// Propagates the gradient g at D to dskew, adding to it.
struct CayleyNeumannBackward {
  static constexpr const char* kName = "cayley_neumann_backward";
  static constexpr bool kNeedsRoom = true;
  Blocks shape;
  int32_t terms;
  Ptr<float> skew, g, dskew;
  void operands(Operands& see) const {
    see.reads(skew, shape.blocks * shape.skew_elements());
    see.reads(g, shape.blocks * shape.elements());
    see.adds(dskew, shape.blocks * shape.skew_elements());
  }
};

/// out = addend + weight x D, each f32 or an operand; the addend may be out itself, or null.
struct Rotate {
  static constexpr const char* kName = "rotate";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens, cols;
  Blocks shape;
  Matrix x;
  Ptr<float> d;
  float weight;
  Matrix addend, out;
  double multiply_adds() const { return product_adds(tokens, shape.size, cols); }
  void operands(Operands& see) const {
    see.reads(x, tokens, cols);
    see.reads(d, shape.blocks * shape.elements());
    see.reads(addend, tokens, cols);
    see.writes(out, tokens, cols);
  }
};

/// The same directly from the skew-symmetric matrix, without forming D: fewer multiplications for few tokens.
struct RotateBySeries {
  static constexpr const char* kName = "rotate_by_series";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens, cols;
  Blocks shape;
  int32_t terms;
  Matrix x;
  Ptr<float> skew;
  float weight;
  Matrix addend, out;
  void operands(Operands& see) const {
    see.reads(x, tokens, cols);
    see.reads(skew, shape.blocks * shape.skew_elements());
    see.reads(addend, tokens, cols);
    see.writes(out, tokens, cols);
  }
};

/// g[b] += the sum over tokens of x_b^T dy_b over the columns of block b, of a shared block over those of all: the
/// gradient at D of x D.
struct RotationGradient {
  static constexpr const char* kName = "rotation_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens, cols;
  Blocks shape;
  Matrix x, dy;
  Ptr<float> g;
  double multiply_adds() const { return product_adds(tokens, shape.size, cols); }
  void operands(Operands& see) const {
    see.reads(x, tokens, cols);
    see.reads(dy, tokens, cols);
    see.adds(g, shape.blocks * shape.elements());
  }
};

}  // namespace lowrank
