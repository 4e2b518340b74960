// Slots of embeddings: y = E[id] + scale * A[:, id]^T B^T (LoRA's for embeddings, arXiv 2106.09685 as PEFT has it). The
// product with a one-hot vector is a look-up of columns of A, and its way back adds to those that were looked up.
#pragma once

#include <cstdint>

#include "core/pool.h"

namespace lowrank {

/// h[t, j] = a[j, ids[t]], with `a` [ranks, vocab] and h [tokens, ranks].
void gather_columns(Pool& pool, int64_t tokens, const int32_t* ids, int64_t ranks, int64_t vocab, const float* a, float* h);

/// da[j, ids[t]] += dh[t, j] for j from `first`; in the order of the tokens, whatever the number of threads.
void scatter_columns(Pool& pool, int64_t tokens, const int32_t* ids, int64_t first, int64_t ranks, int64_t vocab,
                     const float* dh, float* da);

}  // namespace lowrank
