// The operands of the kernels of adapters.
#include "kernels/adapter_kernels.h"

namespace lowrank {

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

void GatherColumns::operands(Operands& see) const {
  see.reads_columns(f32_matrix(a, vocab), ids, ranks, tokens);
  see.writes(h, tokens * ranks);
}
void ScatterColumns::operands(Operands& see) const {
  see.reads(f32_matrix(dh, ranks).columns(first), tokens, ranks - first);
  see.adds_columns(f32_matrix(da, vocab).rows(first), ids, ranks - first, tokens);
}

}  // namespace lowrank
