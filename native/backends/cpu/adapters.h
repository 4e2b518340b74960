// The loops over an adapter's factors.
#pragma once

#include "core/pool.h"
#include "kernels/kernels.h"

namespace lowrank::cpu {

void fold(Pool& pool, const Fold& k);
void fold_snapshot(Pool& pool, const FoldSnapshot& k);
void build_pair_a(Pool& pool, const BuildPairA& k);
void fold_pair(Pool& pool, const FoldPair& k);
void fold_gradient(const FoldGradient& k);
void spread_pair_a(Pool& pool, const SpreadPairA& k);
void spread_pair_b(Pool& pool, const SpreadPairB& k);
void draw_rows(const DrawRows& k);
void gather_columns(Pool& pool, const GatherColumns& k);
void scatter_columns(Pool& pool, const ScatterColumns& k);
void second_moment(Pool& pool, const SecondMoment& k);

}  // namespace lowrank::cpu
