// The operands of the kernels of adapters.
#include "kernels/adapter_kernels.h"

namespace lowrank {

void Fold::operands(Operands& see) const {
  see.reads(f32_matrix(b, rank), rows, active);
  see.reads(d, active);
  see.reads(mask, active);
  see.reads(b_gain, rows);
  see.reads(row_gains, rows);
  see.writes(out, rows * active);
}
void FoldGradient::operands(Operands& see) const {
  if (dd || dgain) see.reads(f32_matrix(b, rank), rows, active);
  if (db || dgain) see.reads(d, active);
  if (db || dd) see.reads(b_gain, rows);
  see.reads(mask, active);
  see.reads(g, rows * active);
  see.adds(f32_matrix(db, rank), rows, active);
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

void RowSquares::operands(Operands& see) const {
  see.reads(w);
  see.writes(out, w.rows);
}
void Gram::operands(Operands& see) const {
  see.reads(f32_matrix(a, ld), rank, cols);
  see.writes(out, rank * rank);
}
void AdaptedRowNorms::operands(Operands& see) const {
  see.reads(f32_matrix(b, rank), w.rows, rank);
  see.reads(squares, w.rows);
  see.reads(products, rank * w.rows);
  see.reads(gram, rank * rank);
  see.writes(out, w.rows);
  see.may_read(w);
  see.may_read(f32_matrix(a, a_ld), rank, w.cols);
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
  see.reads_columns(f32_matrix(a, vocab), ids, ranks, tokens);
  see.writes(h, tokens * ranks);
}
void ScatterColumns::operands(Operands& see) const {
  see.reads(f32_matrix(dh, ranks).columns(first), tokens, ranks - first);
  see.adds_columns(f32_matrix(da, vocab).rows(first), ids, ranks - first, tokens);
}

}  // namespace lowrank
