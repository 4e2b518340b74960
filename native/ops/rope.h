// Rotary position embedding of queries and keys, in halves (Su et al. 2021, arXiv 2104.09864).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rope;

/// Bytes of the cos and sin tables for that many positions.
int64_t rope_table_bytes(const Graph& graph, int64_t positions);

}  // namespace lowrank
