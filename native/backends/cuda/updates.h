// Optimizers' updates of single numbers.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// Numbers that are updated alike, `stride` apart with their gradients and fp32 state; 8-bit state is of numbers side
/// by side. Which factors there are is the rule's.
struct PieceArgs {
  int64_t first_block;  // of a launch that has this piece
  int64_t count, stride;
  float* p;
  const float* gradient;
  void *m, *v;  // floats, or codes
  float *m_absmax, *v_absmax;
  float rate, decay, root;
};

template <int kMost>
struct Pieces {
  int64_t count;
  PieceArgs at[kMost];
};
/// Factors that all pieces share; c1 = 1 - b1, c2 = 1 - b2. Sgd has its momentum at b1.
struct UpdateFactors {
  float b1, b2, c1, c2, epsilon, grad_scale;
};
struct UpdateArgs {
  UpdateFactors by;
  Pieces<36> pieces;
};
/// The maps of quant/dynamic.h.
struct Update8BitArgs {
  UpdateFactors by;
  float signed_map[256], unsigned_map[256];
  Pieces<18> pieces;
};
struct FollowImportancesArgs {
  int64_t count;
  float beta1, beta2, grad_scale;
  const float *value, *gradient;
  float *sensitivity, *uncertainty;
};
inline constexpr int kUpdateThreads = 256, kUpdatesOfThread = 8, kUpdatesOfBlock = kUpdateThreads * kUpdatesOfThread;

#define LOWRANK_UPDATE_KERNELS(X) \
  X(adamw, UpdateArgs)            \
  X(adamw_8bit, Update8BitArgs)   \
  X(sgd, UpdateArgs)              \
  X(lion, UpdateArgs)             \
  X(lion_8bit, Update8BitArgs)    \
  X(follow_importances, FollowImportancesArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_UPDATE_KERNELS)

}  // namespace lowrank::cuda
