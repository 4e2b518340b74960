// The gated delta rule. A block has 32 columns of the state of a head, whose rows its warps share: a thread has rows
// `warp`, `warp` + 8, ... of one column in registers.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

inline constexpr int kDeltaWarps = 8, kDeltaThreads = 32 * kDeltaWarps, kDeltaCols = 32;
/// Rows of a state that a thread has, at most.
inline constexpr int kDeltaRows = 16, kMostKeyDim = kDeltaRows * kDeltaWarps;

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

}  // namespace lowrank::cuda

#if !LOWRANK_ON_DEVICE
#include "backends/cuda/launcher.h"
#include "core/math.h"
#include "device/layout.h"
#include "kernels/delta_rule.h"

namespace lowrank::cuda {

inline int64_t column_tiles(const DeltaHeads& shape) { return ceil_div(shape.value_dim, kDeltaCols); }

/// Takes the sequences, which come first, the norms, and the gates of both passes from the workspace.
DeltaArgs delta_arguments(const DeltaInputs& in, Layout& room);
/// Fills them.
void prepare_delta(Launcher& launcher, const DeltaInputs& in, DeltaArgs& args, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
#endif
