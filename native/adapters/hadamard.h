// LoHa's pairs of factors (FedPara, arXiv 2108.06098): the Hadamard product of two low-rank matrices is one low-rank
// matrix whose factors are face-splitting products of theirs,
//   (b a) . (b2 a2) = B A,  B[o, i r2 + j] = b[o, i] b2[o, j],  A[i r2 + j, c] = a[i, c] a2[j, c].
// What computes with B and A needs no other code; here they are made, and their gradients are taken apart again.
#pragma once

#include "adapters/adapter.h"

namespace lowrank {

/// Ranks of the two products, r1 and r2.
struct PairRanks {
  int64_t first, second;
};
PairRanks pair_ranks(const AdapterSpec& spec, const LowRankSlot& slot);

/// Throws Error("SHAPE") unless the four factors of a paired slot fit each other.
void check_pair(const AdapterSpec& spec, const LowRankSlot& slot);

/// Rows [begin, end) of A [rank, in] into the whole one at `out`.
void build_pair_a(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, float* out);

/// Rows [begin, end) of B [out, rank], times weight * scale and their gains, into the whole one at `out`; see `fold`.
void fold_pair(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, float* out, float weight,
               const float* row_gains);

/// Adds what columns [begin, end) of the gradient at A, g [rank, in], say of a and a2.
void spread_pair_a(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, const float* g);

/// Adds what rows [begin, end) of the gradient at the folded B, g [out, rank], say of b and b2.
void spread_pair_b(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, const float* g,
                   const float* row_gains);

/// Gains of the rows of an adapter's change under dropout: 0 where dropped, else 1, or one over the share that stays.
void draw_row_gains(const DeltaDropout& dropout, uint64_t key, int64_t rows, float* gains);

}  // namespace lowrank
