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

void AppendToCache::operands(Operands& see) const {
  see.reads(positions, 1);
  for (const Matrix& m : {k, v}) see.reads(m, tokens, cols);
  for (const Matrix& m : {to_k, to_v}) see.writes(m, tokens, cols);
}
void Attention::operands(Operands& see) const {
  const int64_t width = int64_t{shape.heads} * shape.head_dim, kv_width = int64_t{shape.kv_heads} * shape.head_dim;
  see.reads(q, tokens, width);
  see.reads(k, keys, kv_width);
  see.reads(v, keys, kv_width);
  see.reads(positions, 1);
  see.writes(out, tokens, width);
  see.writes(lse, tokens * shape.heads);
}
void AttentionBackward::operands(Operands& see) const {
  const int64_t width = int64_t{shape.heads} * shape.head_dim, kv_width = int64_t{shape.kv_heads} * shape.head_dim;
  for (const Matrix& m : {q, out, dout}) see.reads(m, tokens, width);
  for (const Matrix& m : {k, v}) see.reads(m, tokens, kv_width);
  see.reads(lse, tokens * shape.heads);
  see.writes(dq, tokens, width);
  for (const Matrix& m : {dk, dv}) see.writes(m, tokens, kv_width);
}

void ShortConv::operands(Operands& see) const {
  see.reads(x, rows, conv.width());
  see.reads(conv.w, conv.cols * conv.taps);
  see.reads(conv.bias, conv.cols);
  see.reads(positions, rows);
  see.may_read(earlier, conv.taps - 1, conv.cols);
  see.writes(out, rows, conv.cols);
}
void SiluConvSlope::operands(Operands& see) const {
  see.reads(x, rows, conv.cols);
  see.reads(conv.w, conv.cols * conv.taps);
  see.reads(conv.bias, conv.cols);
  see.reads(positions, rows);
  see.reads(dout, rows, conv.cols);
  see.writes(dconv, rows, conv.cols);
}
void ShortConvBackward::operands(Operands& see) const {
  if (conv.gated) {
    see.reads(x, rows, conv.width());
    see.reads(conv.bias, conv.cols);
  }
  see.reads(conv.w, conv.cols * conv.taps);
  see.reads(positions, rows);
  see.reads(dout, rows, conv.cols);
  see.writes(dx, rows, conv.width());
}
void ShortConvGradient::operands(Operands& see) const {
  see.reads(x, rows, conv.width());
  see.reads(positions, rows);
  see.reads(dout, rows, conv.cols);
  see.adds(dw, conv.cols * conv.taps);
  see.adds(dbias, conv.cols);
}
void KeepConvInputs::operands(Operands& see) const {
  const int64_t blocks = (past + rows - 1) / block + 1 - past / block;
  see.reads(x, rows, cols);
  if (gated) see.reads(x.columns(2 * cols), rows, cols);
  see.reads(positions, 1);
  see.adds(last, count, cols);
  see.adds(ends, blocks * count, cols);
}

void DeltaInputs::operands(Operands& see) const {
  see.reads(x, tokens, shape.width());
  see.reads(beta, tokens, shape.heads);
  see.reads(alpha, tokens, shape.heads);
  see.reads(weight, shape.heads);
  see.reads(bias, shape.heads);
}
void GatedDeltaRule::operands(Operands& see) const {
  in.operands(see);
  see.writes(out, in.tokens, in.shape.values());
  see.reads(positions, 1);
  see.adds(state, in.shape.state());
  see.writes(ends, ((past + in.tokens) / block - past / block) * in.shape.state());
}
void GatedDeltaRuleBackward::operands(Operands& see) const {
  in.operands(see);
  see.reads(ends, in.tokens / block * in.shape.state());
  see.reads(dout, in.tokens, in.shape.values());
  see.writes(dx, in.tokens, in.shape.width());
  see.writes(dbeta, in.tokens, in.shape.heads);
  see.writes(dalpha, in.tokens, in.shape.heads);
}
void DeltaRuleGradient::operands(Operands& see) const {
  see.reads(alpha, tokens, heads);
  see.reads(dalpha, tokens, heads);
  see.reads(bias, heads);
  see.adds(dweight, heads);
  see.adds(dbias, heads);
}

void CrossEntropy::operands(Operands& see) const {
  grad.data || inverse_temperature != 1 ? see.spends(logits, rows, vocab) : see.reads(logits, rows, vocab);
  see.reads(labels, rows);
  if (grad.data) see.reads(weights, rows);
  lse_known ? see.reads(lse, rows) : see.writes(lse, rows);
  if (!lse_known) see.writes(loss, rows);
  see.writes(grad, rows, vocab);
}

void DecodeRows::operands(Operands& see) const {
  see.reads_rows(table, ids, tokens);
  see.writes(out, tokens, table.cols);
}

}  // namespace lowrank
