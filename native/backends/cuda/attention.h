// Kernels of attention for any operands and head size, and of its decoding. Those on matrix units are in flash.h.
#pragma once

#include "cells.h"

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

/// Keys and values [tokens, cols] to their rows of the cache; block (.., .., 0) has keys, and (.., .., 1) values.
struct AppendToCacheArgs {
  Tiles tiles;
  const int32_t* positions;  // [1], of the first token
  Cells k, v, cached_k, cached_v;
};

/// Few queries over many keys: block (split, kv head, group of rows) sees keys [split range, (split + 1) range). Rows
/// are the queries of a kv head, query by query and of each its heads.
struct DecodeArgs {
  /// [1], of the first token: the keys that came before, which the card counts so that arguments stay the same. Null:
  /// `past`.
  const int32_t* positions;
  int32_t tokens, past;
  int32_t heads, kv_heads, head_dim, window;
  float scale;
  int32_t unused = 0;
  const void *q, *k, *v;
  int64_t q_ld, k_ld, v_ld;
  float* parts;  // [kMostSplits, tokens, heads, head_dim] not yet divided
  float* tops;   // [kMostSplits, tokens, heads] and the sums behind them
  void* out;
  int64_t out_ld;
  float* lse;
};

inline constexpr int32_t kMostSplits = 64, kLeastRange = 128;  // of keys
/// Keys of a split, and the splits that there are.
constexpr int32_t decoded_range(int32_t keys) {
  const int32_t each = (keys + kMostSplits - 1) / kMostSplits;
  return (each + kLeastRange - 1) / kLeastRange * kLeastRange;
}
constexpr int32_t decoded_splits(int32_t keys) { return (keys + decoded_range(keys) - 1) / decoded_range(keys); }

/// Queries or keys of a block, a warp each.
inline constexpr int kAttentionRows = 4;
/// Columns of a head that a warp sums at a time.
inline constexpr int kAttentionCols = 256;

}  // namespace lowrank::cuda
