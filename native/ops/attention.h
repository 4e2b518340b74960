// Causal attention with grouped key-value heads and an optional sliding window, in tiles (FlashAttention-2, Dao 2023,
// arXiv 2307.08691).
#pragma once

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

/// Bytes of a forward plan's key/value cache: layers x 2 x kv_capacity x kv width, in operand type.
int64_t kv_cache_bytes(const Graph& graph, const PlanOptions& options);

}  // namespace lowrank
