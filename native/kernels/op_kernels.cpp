// The operands of the kernels of the graph's operations.
#include "kernels/op_kernels.h"

#include <algorithm>
#include <vector>

namespace lowrank {
namespace {

void segments(Operands& see, std::span<const Segment> all, int64_t m, bool transposed) {
  for (const Segment& s : all) {
    see.reads(s.x, m, transposed ? s.w.cols : s.w.rows);
    see.reads(s.w);
  }
}

void output(Operands& see, const Output& out, int64_t m, int64_t n) {
  see.reads(out.bias, n);
  see.reads(f32_matrix(out.residual, out.residual_ld), m, n);
  see.writes(out.y, m, n);
}

}  // namespace

void GemmNt::operands(Operands& see) const {
  lowrank::segments(see, segments, m, true);
  output(see, to, m, n);
}
/// Each x is read once.
void GroupedGemmNt::operands(Operands& see) const {
  std::vector<uint64_t> seen;
  for (const GemmNt& each : products) {
    for (const Segment& s : each.segments) {
      if (std::find(seen.begin(), seen.end(), s.x.data.address()) == seen.end()) see.reads(s.x, each.m, s.w.cols);
      seen.push_back(s.x.data.address());
      see.reads(s.w);
    }
    output(see, each.to, each.m, each.n);
  }
}
void GemmNn::operands(Operands& see) const {
  lowrank::segments(see, segments, m, false);
  output(see, to, m, n);
}
void ReduceTokens::operands(Operands& see) const {
  see.reads(u, tokens, r);
  see.reads(x, tokens, n);
  transposed ? see.adds(f32_matrix(out, ld), n, r) : see.adds(f32_matrix(out, ld), r, n);
}

void DecodeRows::operands(Operands& see) const {
  see.reads_rows(table, ids, tokens);
  see.writes(out, tokens, table.cols);
}

}  // namespace lowrank
