// Kernels for the graph's operations, as values; see kernels/kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/precision.h"
#include "kernels/operands.h"

namespace lowrank {

struct Segment {
  Matrix x;
  Factor w;
};

/// Destination of a product. `bias` [N] is added to every row, and `residual` [M, N] f32, which may be the output.
struct Output {
  Matrix y;
  Ptr<float> bias = {}, residual = {};
  int64_t residual_ld = 0;
};

/// y[m, n] = sum over segments of x[m, k] w[n, k]^T (+ bias) (+ residual).
struct GemmNt {
  static constexpr const char* kName = "gemm_nt";
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
};
/// Products of the same rows of x, whose outputs may lie beside each other.
struct GroupedGemmNt {
  static constexpr const char* kName = "grouped_gemm_nt";
  std::span<const GemmNt> products;
  void operands(Operands& see) const;
};
/// y[m, n] = sum over segments of x[m, r] w[r, n] (+ bias) (+ residual).
struct GemmNn {
  static constexpr const char* kName = "gemm_nn";
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
  void operands(Operands& see) const;
};
/// out[r, n] += scale * sum over tokens of u[t, r] x[t, n]; stored as [n, r] if transposed.
struct ReduceTokens {
  static constexpr const char* kName = "reduce_tokens";
  Precision precision;
  int64_t tokens;
  Matrix u;
  int64_t r;
  Matrix x;
  int64_t n;
  float scale;
  Ptr<float> out;
  int64_t ld;
  bool transposed;
  void operands(Operands& see) const;
};

/// Attention heads and their mask: causal, aligned at the end, limited to the last `window` keys (0: all).
struct Heads {
  int32_t heads, kv_heads, head_dim, window;
  float scale;
};
/// Writes keys and values of new tokens to the cache after the first `past` rows; positions[0] is `past` as well.
struct AppendToCache {
  static constexpr const char* kName = "append_to_cache";
  int64_t tokens, past, cols;
  Ptr<int32_t> positions;
  Matrix k, v, to_k, to_v;
  void operands(Operands& see) const;
};

/// out = softmax(scale q k^T + mask) v; lse [tokens, heads] may be null. Query sequences begin at `host_seqlens`, in
/// host memory. With a cache there is one sequence, whose `keys` keys and values are at k and v, and positions[0] +
/// tokens equals `keys`.
struct Attention {
  static constexpr const char* kName = "attention";
  int64_t tokens, keys;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
  Ptr<int32_t> positions = {};  // with a cache
  void operands(Operands& see) const;
};
struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  int64_t tokens;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
  Matrix dout, dq, dk, dv;
  void operands(Operands& see) const;
};

/// out[t] = row ids[t] of a table, decoded to fp32.
struct DecodeRows {
  static constexpr const char* kName = "decode_rows";
  int64_t tokens;
  Ptr<int32_t> ids;
  Factor table;
  Matrix out;
  void operands(Operands& see) const;
};

}  // namespace lowrank
