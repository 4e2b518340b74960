// Attention, its gradients, and its cache of keys and values.
#pragma once

#include <span>

#include "kernels/operands.h"

namespace lowrank {

/// Attention heads and their mask: causal, aligned at the end, limited to the last `window` keys (0: all).
struct Heads {
  int32_t heads, kv_heads, head_dim, window;
  float scale;

  /// Multiply-adds of one product for every pair of a query and a key that it sees, over all sequences.
  double multiply_adds(std::span<const int32_t> seqlens, int64_t cached) const {
    double pairs = 0;
    for (size_t s = 1; s < seqlens.size(); ++s) {
      const double queries = seqlens[s] - seqlens[s - 1];
      const double first = static_cast<double>(cached) + 1, last = static_cast<double>(cached) + queries;
      if (window <= 0 || last <= window) {
        pairs += queries * (first + last) / 2;
      } else {
        const double growing = window > first ? window - first : 0;  // queries that see less than a window
        pairs += growing * (first + window - 1) / 2 + (queries - growing) * window;
      }
    }
    return pairs * heads * head_dim;
  }
};

/// Writes keys and values of new tokens to the cache after the first `past` rows; positions[0] is `past` as well.
struct AppendToCache {
  static constexpr const char* kName = "append_to_cache";
  int64_t tokens, past, cols;
  Ptr<int32_t> positions;
  Matrix k, v, to_k, to_v;
  void operands(Operands& see) const {
    see.reads(positions, 1);
    for (const Matrix& m : {k, v}) see.reads(m, tokens, cols);
    for (const Matrix& m : {to_k, to_v}) see.writes(m, tokens, cols);
  }
};

/// out = softmax(scale q k^T + mask) v; lse [tokens, heads] may be null. Query sequences begin at `host_seqlens`, in
/// host memory. With a cache there is one sequence, whose `keys` keys and values are at k and v, and positions[0] +
/// tokens equals `keys`.
struct Attention {
  static constexpr const char* kName = "attention";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens, keys;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
  Ptr<int32_t> positions = {};  // with a cache
  void operands(Operands& see) const {
    const int64_t width = int64_t{shape.heads} * shape.head_dim, kv_width = int64_t{shape.kv_heads} * shape.head_dim;
    see.reads(q, tokens, width);
    see.reads(k, keys, kv_width);
    see.reads(v, keys, kv_width);
    see.reads(positions, 1);
    see.writes(out, tokens, width);
    see.writes(lse, tokens * shape.heads);
  }
  double multiply_adds() const { return 2 * shape.multiply_adds(host_seqlens, keys - tokens); }
};

struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  static constexpr bool kNeedsRoom = true;
  int64_t tokens;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
  Matrix dout, dq, dk, dv;
  void operands(Operands& see) const {
    const int64_t width = int64_t{shape.heads} * shape.head_dim, kv_width = int64_t{shape.kv_heads} * shape.head_dim;
    for (const Matrix& m : {q, out, dout}) see.reads(m, tokens, width);
    for (const Matrix& m : {k, v}) see.reads(m, tokens, kv_width);
    see.reads(lse, tokens * shape.heads);
    see.writes(dq, tokens, width);
    for (const Matrix& m : {dk, dv}) see.writes(m, tokens, kv_width);
  }
  double multiply_adds() const { return 5 * shape.multiply_adds(host_seqlens, 0); }
};

}  // namespace lowrank
