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

/// Weights of a convolution within columns: w [cols, taps], the last for the row itself, and bias [cols] or null. Its
/// input is B X of rows that hold B, C, and X [3 cols] if it is gated, and the rows themselves if it is not.
struct ConvWeights {
  bool gated;
  int64_t cols;
  int32_t taps;
  Ptr<float> w, bias;
  int64_t width() const { return gated ? 3 * cols : cols; }
};
/// out = C conv(B X), or silu(conv(x)) if it is not gated. A row of the input counts at lag j if the position of its
/// reader is at least j. Rows before the first are in `earlier` [taps - 1, cols] f32, at position modulo taps - 1.
struct ShortConv {
  static constexpr const char* kName = "short_conv";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix earlier;
  Matrix out;
  void operands(Operands& see) const;
};
/// dconv = dout silu'(conv(x)) of a convolution that is not gated.
struct SiluConvSlope {
  static constexpr const char* kName = "silu_conv_slope";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout, dconv;
  void operands(Operands& see) const;
};
/// The gradient of x. If the convolution is not gated, `dout` is that of conv(x), and x is not read.
struct ShortConvBackward {
  static constexpr const char* kName = "short_conv_backward";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout, dx;
  void operands(Operands& see) const;
};
/// Adds the gradients of w and the bias, either of which may be null. If the convolution is not gated, `dout` is that
/// of conv(x). The weights themselves are not read.
struct ShortConvGradient {
  static constexpr const char* kName = "short_conv_gradient";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout;
  Ptr<float> dw, dbias;
  void operands(Operands& see) const;
};
/// Keeps rows of the input by position p: the last `count` in `last`, at row p % count, and the last `count` of each
/// `block` of positions in `ends`, which has `count` rows per block from that of `past` on. positions[0] is `past` as
/// well.
struct KeepConvInputs {
  static constexpr const char* kName = "keep_conv_inputs";
  int64_t rows, past;
  bool gated;
  int64_t cols;
  int32_t count;
  int64_t block;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix last, ends;
  void operands(Operands& see) const;
};

/// Heads of a gated delta rule; each head of queries and keys serves heads / key_heads consecutive heads.
struct DeltaHeads {
  int32_t heads, key_heads, key_dim, value_dim;
  int64_t keys() const { return int64_t{key_heads} * key_dim; }
  int64_t values() const { return int64_t{heads} * value_dim; }
  int64_t width() const { return 2 * keys() + values(); }
  /// Numbers of the states of all heads: [heads, key_dim, value_dim].
  int64_t state() const { return keys() / key_heads * values(); }
};
/// Inputs of a gated delta rule: x [tokens, width] holds queries, keys, and values; beta and alpha are [tokens, heads].
/// Sequences begin at `host_seqlens`, in host memory. Per head and token, with queries and keys divided by their norms
/// and queries by the root of key_dim:
///   S' = e^g S, S = S' + k (sigmoid(beta) (v - S'^T k))^T, out = S^T q, g = -exp(weight) softplus(alpha + bias).
struct DeltaInputs {
  int64_t tokens;
  DeltaHeads shape;
  std::span<const int32_t> host_seqlens;
  Matrix x, beta, alpha;
  Ptr<float> weight, bias;
  void operands(Operands& see) const;
};
/// States start at zero, or for a sequence whose `past` tokens are done, positions[0] being `past` as well, from
/// `state`, which takes the last ones. Those after each multiple of `block` tokens, which chunks of 64 tokens divide,
/// go to `ends`, from the first after `past` on; it may be null. Rows count as tokens here if there are several
/// sequences.
struct GatedDeltaRule {
  static constexpr const char* kName = "gated_delta_rule";
  DeltaInputs in;
  Matrix out;
  int64_t past;
  Ptr<int32_t> positions;
  Ptr<float> state;
  int64_t block;
  Ptr<float> ends;
  void operands(Operands& see) const;
};
/// `ends` are those of the forward pass.
struct GatedDeltaRuleBackward {
  static constexpr const char* kName = "gated_delta_rule_backward";
  DeltaInputs in;
  int64_t block;
  Ptr<float> ends;
  Matrix dout, dx, dbeta, dalpha;
  void operands(Operands& see) const;
};
/// Adds the gradients of weight and bias, either of which may be null, from that of alpha.
struct DeltaRuleGradient {
  static constexpr const char* kName = "delta_rule_gradient";
  int64_t tokens, heads;
  Matrix alpha, dalpha;
  Ptr<float> bias, dweight, dbias;
  void operands(Operands& see) const;
};

/// loss[i] = logsumexp(logits[i]) - logits[i, labels[i]] in nats and, if `grad` is given, (softmax(logits[i]) -
/// onehot(labels[i])) weight, which may overwrite the logits. These are destroyed by it, and by an inverse temperature
/// other than 1, which multiplies them first. Label smoothing replaces onehot by (1 - smoothing) onehot + smoothing /
/// vocab.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  int64_t rows, vocab;
  Matrix logits;
  Ptr<int32_t> labels;
  float weight;
  Ptr<float> loss;
  Matrix grad;
  Ptr<float> weights = {};  // one per row, replacing `weight`
  Ptr<float> lse = {};      // logsumexp of each row, written; if `lse_known` it is read, and no loss is written
  bool lse_known = false;
  float inverse_temperature = 1;
  float smoothing = 0;
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
