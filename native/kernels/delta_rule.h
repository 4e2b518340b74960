// The gated delta rule, whose tokens change a state of each head.
#pragma once

#include <span>

#include "kernels/operands.h"

namespace lowrank {

/// Most tokens of a chunk of a delta rule.
inline constexpr int64_t kDeltaTokens = 64;

/// Heads of a gated delta rule; each head of queries and keys serves heads / key_heads consecutive heads.
struct DeltaHeads {
  int32_t heads, key_heads, key_dim, value_dim;
  /// Heads that share keys.
  int64_t group() const { return heads / key_heads; }
  int64_t keys() const { return int64_t{key_heads} * key_dim; }
  int64_t values() const { return int64_t{heads} * value_dim; }
  int64_t width() const { return 2 * keys() + values(); }
  /// Numbers of the state of a head, [key_dim, value_dim], and of all.
  int64_t head_state() const { return int64_t{key_dim} * value_dim; }
  int64_t state() const { return heads * head_state(); }
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
  int64_t sequences() const { return static_cast<int64_t>(host_seqlens.size()) - 1; }
  void operands(Operands& see) const {
    see.reads(x, tokens, shape.width());
    see.reads(beta, tokens, shape.heads);
    see.reads(alpha, tokens, shape.heads);
    see.reads(weight, shape.heads);
    see.reads(bias, shape.heads);
  }
};

/// States start at zero, or for a sequence whose `past` tokens are done, positions[0] being `past` as well, from
/// `state`, which takes the last ones. Those after each multiple of `block` tokens, which chunks of 64 tokens divide,
/// go to `ends`, from the first after `past` on; it may be null. Rows count as tokens here if there are several
/// sequences.
struct GatedDeltaRule {
  static constexpr const char* kName = "gated_delta_rule";
  static constexpr bool kNeedsRoom = true;
  DeltaInputs in;
  Matrix out;
  int64_t past;
  Ptr<int32_t> positions;
  Ptr<float> state;
  int64_t block;
  Ptr<float> ends;
  /// The row after the chunk of a row: where tokens are a multiple of 64, or the sequence ends.
  int64_t chunk_end(int64_t row, int64_t end) const {
    const int64_t next = (past + row) / kDeltaTokens * kDeltaTokens + kDeltaTokens - past;
    return next < end ? next : end;
  }
  /// Where the state of a head before a row is kept, after the first row; null if it is not.
  Ptr<float> end_before(int64_t row, int64_t head) const {
    if (!ends || (past + row) % block != 0) return {};
    return ends + (((past + row) / block - past / block - 1) * in.shape.heads + head) * in.shape.head_state();
  }
  void operands(Operands& see) const {
    in.operands(see);
    see.writes(out, in.tokens, in.shape.values());
    see.reads(positions, 1);
    see.adds(state, in.shape.state());
    see.writes(ends, ((past + in.tokens) / block - past / block) * in.shape.state());
  }
};

/// `ends` are those of the forward pass.
struct GatedDeltaRuleBackward {
  static constexpr const char* kName = "gated_delta_rule_backward";
  static constexpr bool kNeedsRoom = true;
  DeltaInputs in;
  int64_t block;
  Ptr<float> ends;
  Matrix dout, dx, dbeta, dalpha;
  /// As that of the forward pass.
  Ptr<float> end_before(int64_t row, int64_t head) const {
    if (!ends || row % block != 0) return {};
    return ends + ((row / block - 1) * in.shape.heads + head) * in.shape.head_state();
  }
  void operands(Operands& see) const {
    in.operands(see);
    see.reads(ends, in.tokens / block * in.shape.state());
    see.reads(dout, in.tokens, in.shape.values());
    see.writes(dx, in.tokens, in.shape.width());
    see.writes(dbeta, in.tokens, in.shape.heads);
    see.writes(dalpha, in.tokens, in.shape.heads);
  }
};

/// Adds the gradients of weight and bias, either of which may be null, from that of alpha.
struct DeltaRuleGradient {
  static constexpr const char* kName = "delta_rule_gradient";
  int64_t tokens, heads;
  Matrix alpha, dalpha;
  Ptr<float> bias, dweight, dbias;
  void operands(Operands& see) const {
    see.reads(alpha, tokens, heads);
    see.reads(dalpha, tokens, heads);
    see.reads(bias, heads);
    see.adds(dweight, heads);
    see.adds(dbias, heads);
  }
};

}  // namespace lowrank
