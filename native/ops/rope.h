// Rotary position embedding of queries and keys, in halves (Su et al. 2021, arXiv 2104.09864).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rope;

/// Rows of a rotation's tables for that many positions: where long sequences have frequencies of their own, theirs follow.
int64_t rope_rows(const Rotary& rope, int64_t positions);

/// Numbers of the tables of the first rotations of a graph for that many positions: of each cos [rows, pairs], then sin.
int64_t rope_table_floats(const Graph& graph, size_t first, int64_t positions);

}  // namespace lowrank
