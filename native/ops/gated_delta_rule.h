// Gated delta rule: linear attention whose state decays and is corrected by each token (Yang et al. 2024, arXiv
// 2412.06464), as in Qwen3.5.
#pragma once

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

/// Tokens between the states that a training plan keeps for the backward pass.
inline constexpr int64_t kDeltaChunk = 64;
/// Tokens between positions from which a text can be continued, besides its end. A state takes as much memory as the keys
/// and values of many tokens, so there are fewer of these than of convolutions.
inline constexpr int64_t kDeltaBlock = 512;

/// Bytes that a forward plan keeps for its delta rules.
int64_t delta_cache_bytes(const Graph& graph, const PlanOptions& options);

/// Prepares all delta rules to continue after `run.past` tokens. @param kept_after tokens after which the last states kept
/// stand. Throws Error("SHAPE") if the text can be continued neither there nor at a block.
void resume_delta_rules(const Run& run, int64_t kept_after);

}  // namespace lowrank
