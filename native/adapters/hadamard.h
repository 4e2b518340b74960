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

}  // namespace lowrank
