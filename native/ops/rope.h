// Rotary position embedding of queries and keys, in halves (Su et al. 2021, arXiv 2104.09864).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rope;

/// Numbers of the tables of the first rotations of a graph for that many positions: of each cos [positions, pairs], then
/// sin.
int64_t rope_table_floats(const Graph& graph, size_t first, int64_t positions);

}  // namespace lowrank
