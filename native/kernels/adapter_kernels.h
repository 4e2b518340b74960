// Kernels for adapters, as values; see kernels/kernels.h.
#pragma once

#include <cstdint>

#include "kernels/factors.h"

namespace lowrank {

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
