// Rotary position embedding of queries and keys, in halves (Su et al. 2021, arXiv 2104.09864).
#pragma once

#include "plan/op.h"

namespace lowrank {

/// Rows of a rotation's tables for `positions`; separate frequencies for long sequences, if any, add further rows.
int64_t rope_rows(const Rotary& rope, int64_t positions);

/// Size of the tables of a graph's first rotations for `positions`: for each, cos [rows, pairs], then sin.
int64_t rope_table_floats(const Graph& graph, size_t first, int64_t positions);

}  // namespace lowrank
