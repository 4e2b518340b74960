// out = C conv(B X) for an input with the columns of B, C, and X side by side, where conv is a depthwise causal
// convolution within each sequence, as in LFM2 (Liquid AI 2025, arXiv 2511.23404); and out = silu(conv(x)), as in Qwen3.5.
#pragma once

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

/// Tokens between positions from which a text can be continued, besides its end.
inline constexpr int64_t kConvBlock = 64;

/// Bytes that a forward plan keeps for its convolutions.
int64_t conv_cache_bytes(const Graph& graph, const PlanOptions& options);

/// Prepares all convolutions to continue after `run.past` tokens. @param kept_after tokens after which the last inputs kept
/// stand. Throws Error("SHAPE") if the text can be continued neither there nor at a block.
void resume_convolutions(const Run& run, int64_t kept_after);

}  // namespace lowrank
