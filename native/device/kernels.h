// Every kernel that a step may launch, as a value: what it computes, and where its operands lie. A device implements
// them; planning, tracing and counting visit them. Activations are row-major; operands are f32 or bf16 as the plan's
// precision says, the residual stream and all statistics are f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "core/dtype.h"
#include "core/precision.h"
#include "device/ptr.h"

namespace lowrank {

/// Row-major [rows, cols]; `ld` elements from row to row.
struct Matrix {
  Ptr<std::byte> data;
  DType dtype = DType::f32;
  int64_t ld = 0;

  Matrix columns(int64_t first) const { return {data + first * size_of(dtype), dtype, ld}; }
  Matrix rows(int64_t first) const { return columns(first * ld); }
};

/// The right-hand side of a product: rows of a base weight, in whatever format the device holds it, or fp32 numbers.
struct Factor {
  int64_t rows = 0, cols = 0;
  int weight = -1;    // of the graph
  int64_t first = 0;  // row of the weight
  Ptr<float> dense = {};  // where `weight` is -1
  int64_t ld = 0;

  Factor slice(int64_t begin, int64_t count) const {
    return {count, cols, weight, first + begin, dense + begin * ld, ld};
  }
};

struct Segment {
  Matrix x;
  Factor w;
};

/// Where a product goes. `bias` [N] is added to every row, and `residual` [M, N] f32, which may be the output itself.
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
};
/// y[m, n] = sum over segments of x[m, r] w[r, n] (+ bias) (+ residual).
struct GemmNn {
  static constexpr const char* kName = "gemm_nn";
  Precision precision;
  int64_t m, n;
  std::span<const Segment> segments;
  Output to;
};
/// out[r, n] += scale * sum over tokens of u[t, r] x[t, n]; stored as [n, r] where transposed.
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
};

/// y = x rstd w with rstd = 1 / sqrt(mean(x^2) + eps); x f32, y operand, rstd [rows].
struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  int64_t rows, cols;
  Matrix x;
  Ptr<float> w;
  float eps;
  Matrix y;
  Ptr<float> rstd;
};
/// dx += rstd (g - x rstd^2 mean(g x)) with g = dy w; dx and x f32.
struct RmsNormBackward {
  static constexpr const char* kName = "rms_norm_backward";
  int64_t rows, cols;
  Matrix dy, x;
  Ptr<float> w, rstd;
  Matrix dx;
};
/// dw[c] += sum over rows of dy[r, c] x[r, c] rstd[r].
struct NormGradient {
  static constexpr const char* kName = "norm_gradient";
  int64_t rows, cols;
  Matrix dy, x;
  Ptr<float> rstd, dw;
};

/// Rotates halves of every head in place, or back; cos and sin [positions, head_dim / 2].
struct Rope {
  static constexpr const char* kName = "rope";
  int64_t rows;
  int32_t heads, head_dim;
  Matrix x;
  Ptr<int32_t> positions;
  Ptr<float> cos, sin;
  bool inverse;
};

/// Heads of attention and what they see: causal, aligned at the end, and of that the last `window` keys (0: all).
struct Heads {
  int32_t heads, kv_heads, head_dim, window;
  float scale;
};
/// out = softmax(scale q k^T + mask) v; lse [tokens, heads] may be null. Sequences of the queries begin at
/// `host_seqlens`, on the host; with `past` there is one, whose `past + tokens` keys and values lie at k and v.
struct Attention {
  static constexpr const char* kName = "attention";
  int64_t tokens, keys;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
};
struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  int64_t tokens;
  Heads shape;
  std::span<const int32_t> host_seqlens;
  Matrix q, k, v, out;
  Ptr<float> lse;
  Matrix dout, dq, dk, dv;
};

/// out = silu(gate) up.
struct Swiglu {
  static constexpr const char* kName = "swiglu";
  int64_t rows, cols;
  Matrix gate, up, out;
};
/// The gradients may take the place of gate and up.
struct SwigluBackward {
  static constexpr const char* kName = "swiglu_backward";
  int64_t rows, cols;
  Matrix dout, gate, up, dgate, dup;
};

/// out[i] = x[rows[i]].
struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  int64_t count, cols;
  Matrix x;
  Ptr<int32_t> rows;
  Matrix out;
};
/// out[rows[i]] += x[i] for distinct rows.
struct ScatterAddRows {
  static constexpr const char* kName = "scatter_add_rows";
  int64_t count, cols;
  Matrix x;
  Ptr<int32_t> rows;
  Matrix out;
};
/// loss[i] = logsumexp(logits[i]) - logits[i, labels[i]] in nats, and where `grad` is there
/// (softmax(logits[i]) - onehot(labels[i])) weight, which may take the place of the logits.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  int64_t rows, vocab;
  Matrix logits;
  Ptr<int32_t> labels;
  float weight;
  Ptr<float> loss;
  Matrix grad;
};

struct Zero {
  static constexpr const char* kName = "zero";
  Ptr<std::byte> to;
  int64_t bytes;
};
/// Rounds fp32 to bf16.
struct Cast {
  static constexpr const char* kName = "cast";
  int64_t count;
  Ptr<float> from;
  Ptr<uint16_t> to;
};

using Kernel = std::variant<GemmNt, GemmNn, ReduceTokens, RmsNorm, RmsNormBackward, NormGradient, Rope, Attention,
                            AttentionBackward, Swiglu, SwigluBackward, GatherRows, ScatterAddRows, CrossEntropy, Zero, Cast>;

}  // namespace lowrank
