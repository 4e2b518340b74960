// Code shared by the levels of the attention kernels: tile sizes, the layout of the workspace, the reference kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/ops.h"
#include "core/math.h"

namespace lowrank::cpu {

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

void attention_reference(Pool& pool, const AttentionShape& shape, const Matrix& q, const Matrix& k, const Matrix& v,
                         const Matrix& out, float* lse, std::byte* workspace);
void attention_backward_reference(Pool& pool, const AttentionShape& shape, const Matrix& q, const Matrix& k,
                                  const Matrix& v, const Matrix& out, const float* lse, const Matrix& dout,
                                  const Matrix& dq, const Matrix& dk, const Matrix& dv, std::byte* workspace);

}  // namespace lowrank::cpu
