// The gated delta rule. A block has 32 columns of the state of a head, whose rows its warps share.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

inline constexpr int kDeltaWarps = 8, kDeltaThreads = 32 * kDeltaWarps, kDeltaCols = 32;
/// Rows of a state that a thread has, at most.
inline constexpr int kDeltaRows = 16, kMostKeyDim = kDeltaRows * kDeltaWarps;
/// Tokens whose states the backward pass recomputes at a time.
inline constexpr int kDeltaTokens = 64;
/// Sums of a token and tile that the gradients of beta and g are made of: one of beta, and one of g a warp.
inline constexpr int kDeltaGateSums = 1 + kDeltaWarps;

struct DeltaArgs {
  Cells x, beta, alpha;
  const float *weight, *bias;
  float* norms;            // [tokens, key_heads, 3]: 1 / norm of q, with the root of key_dim, and of k; their product
  float* gates;            // [tokens, heads, 3]: sigmoid(beta), e^g, slope of g in alpha
  const int32_t* seqlens;  // null: one sequence of all tokens
  int64_t tokens;
  int32_t sequences, heads, key_heads, key_dim, value_dim;
  float query_factor;
};
/// `state` is read if positions[0] is not 0; `ends` begins with the first block of the text. All three may be null.
struct DeltaForwardArgs {
  DeltaArgs in;
  Cells out;
  const int32_t* positions;
  float *state, *ends;
  int64_t block;
};
struct DeltaBackwardArgs {
  DeltaArgs in;
  const float* ends;
  Cells dout, dx, dbeta, dalpha;
  float* states;     // of each block: [kDeltaTokens, key_dim, kDeltaCols]
  float* parts;      // [heads, tiles, tokens, kDeltaThreads]: dq and dk, by warp and lane
  float* gate_sums;  // [heads, tiles, tokens, kDeltaGateSums]
  int64_t tiles;
};
struct DeltaRuleGradientArgs {
  int64_t tokens;
  Cells alpha, dalpha;
  const float* bias;
  float *dweight, *dbias;
};

#define LOWRANK_DELTA_RULE_KERNELS(X)             \
  X(delta_gates, DeltaArgs)                       \
  X(gated_delta_rule, DeltaForwardArgs)           \
  X(gated_delta_rule_backward, DeltaBackwardArgs) \
  X(delta_inputs_gradient, DeltaBackwardArgs)     \
  X(delta_rule_gradient, DeltaRuleGradientArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_DELTA_RULE_KERNELS)

}  // namespace lowrank::cuda
