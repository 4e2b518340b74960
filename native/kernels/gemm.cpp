// The operands of products.
#include "kernels/gemm.h"

#include <algorithm>
#include <vector>

namespace lowrank {
namespace {

void see_segments(Operands& see, std::span<const Segment> all, int64_t m, bool transposed) {
  for (const Segment& s : all) {
    see.reads(s.x, m, transposed ? s.w.cols : s.w.rows);
    see.reads(s.w);
  }
}

void see_output(Operands& see, const Output& out, int64_t m, int64_t n) {
  see.reads(out.bias, n);
  see.reads(f32_matrix(out.residual, out.residual_ld), m, n);
  see.writes(out.y, m, n);
}

}  // namespace

void GemmNt::operands(Operands& see) const {
  see_segments(see, segments, m, true);
  see_output(see, to, m, n);
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
    see_output(see, each.to, each.m, each.n);
  }
}
void GemmNtByRow::operands(Operands& see) const {
  see_segments(see, {&base, 1}, m, true);
  for (const LowRankPart& part : parts) {
    see.reads(part.a);
    part.b.reads(see);
  }
  see_output(see, to, m, n);
}
void GemmNn::operands(Operands& see) const {
  see_segments(see, segments, m, false);
  see_output(see, to, m, n);
}

}  // namespace lowrank
