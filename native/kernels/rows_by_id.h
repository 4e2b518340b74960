// Rows that are picked by ids of tokens.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

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

}  // namespace lowrank
