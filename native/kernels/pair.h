// The Hadamard product of two products of few ranks, dense.
#pragma once

#include "kernels/factors.h"

namespace lowrank {

/// out = base + scale row_gain_o (b a) . (b2 a2), dense fp32; an empty base counts as 0, null gains as ones.
struct AddPair {
  static constexpr const char* kName = "add_pair";
  Pair pair;
  Factor base;
  float scale;
  Ptr<float> row_gains, out;
  void operands(Operands& see) const {
    pair.reads(see);
    see.reads(base);
    see.reads(row_gains, pair.rows);
    see.writes(out, pair.rows * pair.cols);
  }
  double multiply_adds() const { return pair.multiply_adds(); }
};
/// The gradients at the two products, from g at their Hadamard product: that of b a, row_gain_o g . (b2 a2), takes the
/// place of g, and that of b2 a2, row_gain_o g . (b a), is left in `second`.
struct SplitPair {
  static constexpr const char* kName = "split_pair";
  Pair pair;
  Ptr<float> row_gains, g, second;
  void operands(Operands& see) const {
    pair.reads(see);
    see.reads(row_gains, pair.rows);
    see.adds(g, pair.rows * pair.cols);
    see.writes(second, pair.rows * pair.cols);
  }
  double multiply_adds() const { return pair.multiply_adds(); }
};

}  // namespace lowrank
