// Code shared by the levels of the attention kernels: sequences, tile sizes, and the layout of the workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/math.h"
#include "kernels/attention.h"

namespace lowrank::cpu {

/// Heads, and packed sequences: queries of sequence s are rows seqlens[s] .. seqlens[s + 1] - 1, its keys and values
/// the same rows of k and v. After a cache there is one sequence, whose first `cached` keys have no queries. Query i
/// sees the keys up to cached + i, and of these the last `window` only.
struct AttentionShape {
  int32_t sequences;
  const int32_t* seqlens;
  int64_t cached, keys;  // keys of all sequences
  int32_t heads, kv_heads, head_dim;
  int32_t window;  // wider than any sequence where there is none
  float scale;
};
inline AttentionShape shape_of(const Heads& heads, std::span<const int32_t> seqlens, int64_t tokens, int64_t keys) {
  return {static_cast<int32_t>(seqlens.size()) - 1,
          seqlens.data(),
          keys - tokens,
          keys,
          heads.heads,
          heads.kv_heads,
          heads.head_dim,
          heads.window > 0 ? heads.window : std::numeric_limits<int32_t>::max(),
          heads.scale};
}
inline AttentionShape shape_of(const Attention& k) { return shape_of(k.shape, k.host_seqlens, k.tokens, k.keys); }
inline AttentionShape shape_of(const AttentionBackward& k) {
  return shape_of(k.shape, k.host_seqlens, k.tokens, k.tokens);
}

/// Queries and keys per tile.
inline constexpr int64_t kTile = 64;
/// A decoding step (one query) is cut into this many (sequence, kv head, key range) units at most.
inline constexpr int64_t kDecodeUnits = 64;

/// Head size in memory: rows of packed tiles are whole 64-byte lines.
constexpr int64_t padded_head_dim(int64_t head_dim) { return round_up(head_dim, 16); }
/// Bytes of one tile of 64 rows of a head in fp32, and of one tile of scores.
constexpr int64_t head_tile_bytes(int64_t head_dim) { return kTile * padded_head_dim(head_dim) * 4; }
inline constexpr int64_t kScoreTileBytes = kTile * kTile * 4;

/// Private part of each thread.
constexpr int64_t forward_thread_bytes(int64_t head_dim) {
  return 4 * head_tile_bytes(head_dim) + 2 * kScoreTileBytes + 4096;
}
constexpr int64_t backward_thread_bytes(int64_t head_dim) {
  return 8 * head_tile_bytes(head_dim) + 4 * kScoreTileBytes + 4096;
}

/// A transposed copy of K or V in bf16, blocks of 32 keys, where a level packs one: at most half as much again as the
/// keys.
constexpr int64_t packed_keys_bytes(int64_t tokens, int64_t kv_heads, int64_t head_dim) {
  return (tokens * 3 / 64 + 2) * 32 * padded_head_dim(head_dim) * kv_heads * 2;
}

}  // namespace lowrank::cpu
