// Rows and columns that are picked by ids of tokens.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// out[t] = row ids[t] of a table, decoded to fp32.
struct DecodeRows {
  static constexpr const char* kName = "decode_rows";
  int64_t tokens;
  Ptr<int32_t> ids;
  Factor table;
  Matrix out;
  void operands(Operands& see) const {
    see.reads_rows(table, ids, tokens);
    see.writes(out, tokens, table.cols);
  }
};

/// dtable[ids[t], c] += dy[t, c].
struct EmbeddingGradient {
  static constexpr const char* kName = "embedding_gradient";
  int64_t tokens, cols;
  Ptr<int32_t> ids;
  Matrix dy;
  Ptr<float> dtable;
  void operands(Operands& see) const {
    see.reads(dy, tokens, cols);
    see.adds_rows(f32_matrix(dtable, cols), ids, tokens, cols);
  }
};

/// h[t, j] = a[j, ids[t]].
struct GatherColumns {
  static constexpr const char* kName = "gather_columns";
  int64_t tokens;
  Ptr<int32_t> ids;
  int64_t ranks, vocab;
  Ptr<float> a, h;
  void operands(Operands& see) const {
    see.reads_columns(f32_matrix(a, vocab), ids, ranks, tokens);
    see.writes(h, tokens * ranks);
  }
};
/// da[j, ids[t]] += dh[t, j] for j from `first`.
struct ScatterColumns {
  static constexpr const char* kName = "scatter_columns";
  int64_t tokens;
  Ptr<int32_t> ids;
  int64_t first, ranks, vocab;
  Ptr<float> dh, da;
  void operands(Operands& see) const {
    see.reads(f32_matrix(dh, ranks).columns(first), tokens, ranks - first);
    see.adds_columns(f32_matrix(da, vocab).rows(first), ids, ranks - first, tokens);
  }
};

}  // namespace lowrank
