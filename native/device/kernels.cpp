// The operands of every kernel. test/native/device/operands.test.cpp runs kernels and holds them to this.
#include "device/kernels.h"

namespace lowrank {
namespace {

template <class... K>
std::vector<const char*> names_of(const std::variant<K...>*) {
  return {K::kName...};
}

Matrix f32(Ptr<float> at, int64_t ld) { return {at.as<std::byte>(), DType::f32, ld}; }

void segments(Operands& see, std::span<const Segment> all, int64_t m, bool transposed) {
  for (const Segment& s : all) {
    see.reads(s.x, m, transposed ? s.w.cols : s.w.rows);
    see.reads(s.w);
  }
}

void output(Operands& see, const Output& out, int64_t m, int64_t n) {
  see.reads(out.bias, n);
  see.reads(f32(out.residual, out.residual_ld), m, n);
  see.writes(out.y, m, n);
}

}  // namespace

std::vector<const char*> kernel_names() { return names_of(static_cast<const Kernel*>(nullptr)); }

void GemmNt::operands(Operands& see) const {
  lowrank::segments(see, segments, m, true);
  output(see, to, m, n);
}
void GemmNn::operands(Operands& see) const {
  lowrank::segments(see, segments, m, false);
  output(see, to, m, n);
}
void ReduceTokens::operands(Operands& see) const {
  see.reads(u, tokens, r);
  see.reads(x, tokens, n);
  transposed ? see.adds(f32(out, ld), n, r) : see.adds(f32(out, ld), r, n);
}

void RmsNorm::operands(Operands& see) const {
  see.reads(x, rows, cols);
  see.reads(w, cols);
  see.writes(y, rows, cols);
  see.writes(rstd, rows);
}
void RmsNormBackward::operands(Operands& see) const {
  see.reads(dy, rows, cols);
  see.reads(x, rows, cols);
  see.reads(w, cols);
  see.reads(rstd, rows);
  dx.data.address() == dy.data.address() ? see.writes(dx, rows, cols) : see.adds(dx, rows, cols);
}
void NormGradient::operands(Operands& see) const {
  see.reads(dy, rows, cols);
  see.reads(x, rows, cols);
  see.reads(rstd, rows);
  see.adds(dw, cols);
}

void Rope::operands(Operands& see) const {
  const int64_t pairs = head_dim / 2;
  see.reads_rows(f32(cos, pairs), positions, rows, pairs);
  see.reads_rows(f32(sin, pairs), positions, rows, pairs);
  see.adds(x, rows, int64_t{heads} * head_dim);
}

void Attention::operands(Operands& see) const {
  const int64_t width = int64_t{shape.heads} * shape.head_dim, kv_width = int64_t{shape.kv_heads} * shape.head_dim;
  see.reads(q, tokens, width);
  see.reads(k, keys, kv_width);
  see.reads(v, keys, kv_width);
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

void Swiglu::operands(Operands& see) const {
  see.reads(gate, rows, cols);
  see.reads(up, rows, cols);
  see.writes(out, rows, cols);
}
void SwigluBackward::operands(Operands& see) const {
  for (const Matrix& m : {dout, gate, up}) see.reads(m, rows, cols);
  for (const Matrix& m : {dgate, dup}) see.writes(m, rows, cols);
}

void GatherRows::operands(Operands& see) const {
  see.reads_rows(x, rows, count, cols);
  see.writes(out, count, cols);
}
void ScatterAddRows::operands(Operands& see) const {
  see.reads(x, count, cols);
  see.adds_rows(out, rows, count, cols);
}
void CrossEntropy::operands(Operands& see) const {
  grad.data ? see.spends(logits, rows, vocab) : see.reads(logits, rows, vocab);
  see.reads(labels, rows);
  see.writes(loss, rows);
  see.writes(grad, rows, vocab);
}

void Zero::operands(Operands& see) const { see.writes(to, bytes); }
void Cast::operands(Operands& see) const {
  see.reads(from, count);
  see.writes(to, count);
}
void AddConstant::operands(Operands& see) const { see.adds(to, count); }

void DecodeRows::operands(Operands& see) const {
  see.reads_rows(table, ids, tokens);
  see.writes(out, tokens, table.cols);
}
void EmbeddingGradient::operands(Operands& see) const {
  see.reads(dy, tokens, cols);
  see.adds_rows(f32(dtable, cols), ids, tokens, cols);
}
void BiasGradient::operands(Operands& see) const {
  see.reads(dy, rows, cols);
  see.adds(db, cols);
}

void Dropout::operands(Operands& see) const {
  see.reads(x, rows, cols);
  see.writes(out, rows, cols);
}
void DropoutBackward::operands(Operands& see) const {
  see.reads(x, rows, cols);
  see.adds(y, rows, cols);
}
void ScaleColumns::operands(Operands& see) const {
  see.reads(x, rows, cols);
  see.reads(gain, cols);
  see.reads(bias, cols);
  see.reads(addend, rows, cols);
  see.writes(y, rows, cols);
}
void ScaleColumnsBackward::operands(Operands& see) const {
  see.reads(dy, rows, cols);
  see.reads(x, rows, cols);
  see.reads(gain, cols);
  see.reads(share, cols);
  see.writes(dx, rows, cols);
  see.adds(dgain, cols);
}

void Fold::operands(Operands& see) const {
  see.reads(f32(b, rank), rows, active);
  see.reads(d, active);
  see.reads(mask, active);
  see.reads(b_gain, rows);
  see.reads(row_gains, rows);
  see.writes(out, rows * active);
}
void FoldGradient::operands(Operands& see) const {
  if (dd || dgain) see.reads(f32(b, rank), rows, active);
  if (db || dgain) see.reads(d, active);
  if (db || dd) see.reads(b_gain, rows);
  see.reads(mask, active);
  see.reads(g, rows * active);
  see.adds(f32(db, rank), rows, active);
  see.adds(dd, active);
  see.adds(dgain, rows);
}
void FoldSnapshot::operands(Operands& see) const {
  see.reads(b, rows * rank);
  see.reads(star, rows * rank);
  see.reads(row_gains, rows);
  see.writes(out, 2 * rows * rank);
}

void BuildPairA::operands(Operands& see) const {
  see.reads(pair.a, pair.rank * pair.cols);
  see.reads(pair.a2, pair.rank2 * pair.cols);
  see.writes(out, pair.rank * pair.rank2 * pair.cols);
}
void FoldPair::operands(Operands& see) const {
  see.reads(pair.b, pair.rows * pair.rank);
  see.reads(pair.b2, pair.rows * pair.rank2);
  see.reads(row_gains, pair.rows);
  see.writes(out, pair.rows * pair.rank * pair.rank2);
}
void SpreadPairA::operands(Operands& see) const {
  if (da2) see.reads(pair.a, pair.rank * pair.cols);
  if (da) see.reads(pair.a2, pair.rank2 * pair.cols);
  see.reads(g, pair.rank * pair.rank2 * pair.cols);
  see.adds(da, pair.rank * pair.cols);
  see.adds(da2, pair.rank2 * pair.cols);
}
void SpreadPairB::operands(Operands& see) const {
  if (db2) see.reads(pair.b, pair.rows * pair.rank);
  if (db) see.reads(pair.b2, pair.rows * pair.rank2);
  see.reads(row_gains, pair.rows);
  see.reads(g, pair.rows * pair.rank * pair.rank2);
  see.adds(db, pair.rows * pair.rank);
  see.adds(db2, pair.rows * pair.rank2);
}
void Pair::reads(Operands& see) const {
  see.reads(b, rows * rank);
  see.reads(a, rank * cols);
  see.reads(b2, rows * rank2);
  see.reads(a2, rank2 * cols);
}
void AddPair::operands(Operands& see) const {
  pair.reads(see);
  see.reads(base);
  see.reads(row_gains, pair.rows);
  see.writes(out, pair.rows * pair.cols);
}
void SplitPair::operands(Operands& see) const {
  pair.reads(see);
  see.reads(row_gains, pair.rows);
  see.adds(g, pair.rows * pair.cols);
  see.writes(second, pair.rows * pair.cols);
}
void DrawRows::operands(Operands& see) const { see.writes(gains, rows); }

void KroneckerPair::reads(Operands& see) const {
  see.reads(c, l * p);
  see.reads(d, k * (rank > 0 ? rank : q));
  see.reads(d2, rank * q);
}
void Kronecker::operands(Operands& see) const {
  pair.reads(see);
  see.reads(x, tokens, pair.p * pair.q);
  see.reads(residual, tokens * pair.l * pair.k);
  see.reads(gains, pair.l * pair.k);
  see.writes(out, tokens * pair.l * pair.k);
}
void KroneckerBackward::operands(Operands& see) const {
  const int64_t in = tokens * pair.p * pair.q;
  pair.reads(see);
  see.reads(x, tokens, pair.p * pair.q);
  see.reads(dy, tokens, pair.l * pair.k);
  see.reads(gains, pair.l * pair.k);
  see.adds(dc, pair.l * pair.p);
  see.adds(dd, pair.k * (pair.rank > 0 ? pair.rank : pair.q));
  see.adds(dd2, pair.rank * pair.q);
  adds_dx ? see.adds(dx, in) : see.writes(dx, in);
}
void KroneckerC::operands(Operands& see) const {
  see.reads(a, l * rank);
  see.reads(b, rank * p);
  see.writes(c, l * p);
}
void SpreadKroneckerC::operands(Operands& see) const {
  if (db) see.reads(a, l * rank);
  if (da) see.reads(b, rank * p);
  see.reads(g, l * p);
  see.adds(da, l * rank);
  see.adds(db, rank * p);
}

void CayleyNeumann::operands(Operands& see) const {
  see.reads(skew, shape.blocks * shape.skew_elements());
  see.writes(out, shape.blocks * shape.elements());
}
void CayleyNeumannBackward::operands(Operands& see) const {
  see.reads(skew, shape.blocks * shape.skew_elements());
  see.reads(g, shape.blocks * shape.elements());
  see.adds(dskew, shape.blocks * shape.skew_elements());
}
void Rotate::operands(Operands& see) const {
  see.reads(x, tokens, cols);
  see.reads(d, shape.blocks * shape.elements());
  see.reads(addend, tokens, cols);
  see.writes(out, tokens, cols);
}
void RotateBySeries::operands(Operands& see) const {
  see.reads(x, tokens, cols);
  see.reads(skew, shape.blocks * shape.skew_elements());
  see.reads(addend, tokens, cols);
  see.writes(out, tokens, cols);
}
void RotationGradient::operands(Operands& see) const {
  see.reads(x, tokens, cols);
  see.reads(dy, tokens, cols);
  see.adds(g, shape.blocks * shape.elements());
}

void RowSquares::operands(Operands& see) const {
  see.reads(w);
  see.writes(out, w.rows);
}
void Gram::operands(Operands& see) const {
  see.reads(f32(a, ld), rank, cols);
  see.writes(out, rank * rank);
}
void AdaptedRowNorms::operands(Operands& see) const {
  see.reads(f32(b, rank), w.rows, rank);
  see.reads(squares, w.rows);
  see.reads(products, rank * w.rows);
  see.reads(gram, rank * rank);
  see.writes(out, w.rows);
  see.may_read(w);
  see.may_read(f32(a, a_ld), rank, w.cols);
}
void AddRatios::operands(Operands& see) const {
  see.reads(m, rows);
  see.reads(c, rows);
  see.adds(gain, rows);
}
void RatiosOver::operands(Operands& see) const {
  if (m) see.reads(c, rows);
  see.reads(m, rows);
  see.adds(gain, rows);
  see.writes(over, rows);
}
void MagnitudeGains::operands(Operands& see) const {
  see.reads(m, rows);
  see.reads(c, rows);
  see.writes(gain, rows);
  see.writes(share, rows);
}

void SecondMoment::operands(Operands& see) const {
  see.reads(h, tokens, rank);
  see.adds(moment, rank * rank);
}
void GatherColumns::operands(Operands& see) const {
  see.reads_columns(f32(a, vocab), ids, ranks, tokens);
  see.writes(h, tokens * ranks);
}
void ScatterColumns::operands(Operands& see) const {
  see.reads(f32(dh, ranks).columns(first), tokens, ranks - first);
  see.adds_columns(f32(da, vocab).rows(first), ids, ranks - first, tokens);
}

}  // namespace lowrank
