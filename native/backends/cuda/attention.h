// Arguments of attention, and its decoding, for any operands and head size. Attention on matrix units is in flash.h.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// Rows of a block: those from `first` on of a sequence with rows [begin, begin + count).
struct AttentionTile {
  int32_t begin, count, first, unused;
};

/// Query i of a sequence sees its keys up to past + i, and of these the last `window`.
struct AttentionArgs {
  const AttentionTile* tiles;
  int32_t heads, kv_heads, head_dim, past, window;
  float scale;
  const void *q, *k, *v;
  int64_t q_ld, k_ld, v_ld;
  void* out;
  int64_t out_ld;
  float* lse;  // [tokens, heads], or null
};

struct AttentionBackwardArgs {
  const AttentionTile* tiles;
  int32_t heads, kv_heads, head_dim, window;
  float scale;
  int32_t unused = 0;
  const void *q, *k, *v, *dout;
  int64_t q_ld, k_ld, v_ld, dout_ld;
  const float *lse, *sums;  // [tokens, heads]
  void *dq, *dk, *dv;
  int64_t dq_ld, dk_ld, dv_ld;
};

/// sums [tokens, heads] = the products of rows of out and dout, head by head.
struct AttentionSumsArgs {
  int64_t tokens;
  int32_t heads, head_dim;
  const void *out, *dout;
  int64_t out_ld, dout_ld;
  float* sums;
};

/// Queries or keys of a block, a warp each.
inline constexpr int kAttentionRows = 4;
/// Columns of a head that a warp sums at a time.
inline constexpr int kAttentionCols = 256;

}  // namespace lowrank::cuda

#if !LOWRANK_ON_DEVICE
#include <limits>

#include "backends/cuda/launcher.h"
#include "kernels/attention.h"

namespace lowrank::cuda {

inline int32_t window_of(const Heads& heads) {
  return heads.window > 0 ? heads.window : std::numeric_limits<int32_t>::max();
}

/// True where few tokens see many keys, for which `decode` has kernels.
bool decodes(const Attention& k);
void decode(Launcher& launcher, const Attention& k, Ptr<std::byte> workspace);
/// The most bytes that they need.
int64_t decode_workspace(const Attention& k);

}  // namespace lowrank::cuda
#endif
