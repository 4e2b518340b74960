// The loops over an adapter's factors.
#pragma once

#include "core/pool.h"
#include "device/kernels.h"

namespace lowrank::cpu {

void fold(Pool& pool, const Fold& k);
void fold_snapshot(Pool& pool, const FoldSnapshot& k);
void build_pair_a(Pool& pool, const BuildPairA& k);
void fold_pair(Pool& pool, const FoldPair& k);
// Of rows [begin, end) alone, on the calling thread.
void fold(const Fold& k, int64_t begin, int64_t end);
void fold_snapshot(const FoldSnapshot& k, int64_t begin, int64_t end);
void build_pair_a(const BuildPairA& k, int64_t begin, int64_t end);
void fold_pair(const FoldPair& k, int64_t begin, int64_t end);

void fold_gradient(const FoldGradient& k);
void spread_pair_a(Pool& pool, const SpreadPairA& k);
void spread_pair_b(Pool& pool, const SpreadPairB& k);
void draw_rows(const DrawRows& k);
void kronecker_c(const KroneckerC& k);
void spread_kronecker_c(const SpreadKroneckerC& k);

}  // namespace lowrank::cpu
