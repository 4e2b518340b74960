// The forward pass of the gated delta rule, the numbers that it reads of each token, and the gradients of its weight
// and bias.
#include "delta_rule.h"

namespace lowrank::cuda {

/// `state` is read if positions[0] is not 0; `ends` begins with the first block of the text. All three may be null.
struct DeltaForwardArgs {
  DeltaArgs in;
  Cells out;
  const int32_t* positions;
  float *state, *ends;
  int64_t block;
};
struct DeltaRuleGradientArgs {
  int64_t tokens;
  Cells alpha, dalpha;
  const float* bias;
  float *dweight, *dbias;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "delta_rule.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }
LOWRANK_DEVICE float softplus(float v) { return v > 0 ? v + log1pf(expf(-v)) : log1pf(expf(v)); }

}  // namespace

/// A block a token.
LOWRANK_KERNEL(delta_gates, DeltaArgs, kDeltaThreads, 4) {
  const int64_t row = blockIdx.x;
  for (int head = warp_of(); head < args.key_heads; head += kDeltaWarps) {
    float queries = 0, keys = 0, product = 0;
    for (int i = lane_of(); i < args.key_dim; i += 32) {
      const float q = get(args.x, row, int64_t{head} * args.key_dim + i);
      const float k = get(args.x, row, (int64_t{args.key_heads} + head) * args.key_dim + i);
      queries = fmaf(q, q, queries);
      keys = fmaf(k, k, keys);
      product = fmaf(q, k, product);
    }
    const float q = args.query_factor / sqrtf(warp_sum(queries) + 1e-6f), k = 1.0f / sqrtf(warp_sum(keys) + 1e-6f);
    product = warp_sum(product);
    float* const to = args.norms + (row * args.key_heads + head) * 3;
    if (lane_of() == 0) {
      to[0] = q;
      to[1] = k;
      to[2] = product * q * k;
    }
  }
  for (int head = static_cast<int>(threadIdx.x); head < args.heads; head += kDeltaThreads) {
    const float rate = -expf(args.weight[head]), alpha = get(args.alpha, row, head) + args.bias[head];
    float* const to = args.gates + (row * args.heads + head) * 3;
    to[0] = sigmoid(get(args.beta, row, head));
    to[1] = expf(rate * softplus(alpha));
    to[2] = rate * sigmoid(alpha);
  }
}

LOWRANK_KERNEL(gated_delta_rule, DeltaForwardArgs, kDeltaThreads, 2) {
  LOWRANK_SHARED(float, vectors, [kBuffers * 2 * kMostKeyDim]);
  LOWRANK_SHARED(float, sums, [2 * 2 * kDeltaThreads]);
  const DeltaArgs& in = args.in;
  const Place place = place_of(in, blockIdx.x, static_cast<int>(blockIdx.y));
  const int64_t past = args.positions ? args.positions[0] : 0, size = int64_t{in.key_dim} * in.value_dim;
  const int warp = warp_of(), thread = static_cast<int>(threadIdx.x);
  const auto each_row = [&](auto&& body) {
#pragma unroll
    for (int e = 0; e < kDeltaRows; ++e)
      if (warp + e * kDeltaWarps < in.key_dim) body(e, warp + e * kDeltaWarps);
  };
  const auto keep = [&](float* states, const float (&state)[kDeltaRows]) {
    if (place.inside)
      each_row([&](int e, int i) { states[place.head * size + int64_t{i} * in.value_dim + place.col] = state[e]; });
  };
  float state[kDeltaRows] = {};
  if (args.state && past > 0 && place.inside)
    each_row([&](int e, int i) { state[e] = args.state[place.head * size + int64_t{i} * in.value_dim + place.col]; });
  Token token = token_of(in, place, place.begin);
  vectors[thread] = unit_number(in, place, place.begin);
  __syncthreads();
  int buffer = 0;
  for (int64_t row = place.begin; row < place.end; ++row) {
    const float next_number = unit_number(in, place, row + 1);
    const Token next = token_of(in, place, row + 1);
    const float* const q = vectors + buffer * 2 * kMostKeyDim;
    const float* const k = q + kMostKeyDim;
    float along_key = 0, along_query = 0;
    each_row([&](int e, int i) {
      along_key = fmaf(state[e], k[i], along_key);
      along_query = fmaf(state[e], q[i], along_query);
    });
    float* const parts = sums + (row & 1) * 2 * kDeltaThreads;
    parts[thread] = along_key;
    parts[kDeltaThreads + thread] = along_query;
    buffer = buffer + 1 < kBuffers ? buffer + 1 : 0;
    vectors[buffer * 2 * kMostKeyDim + thread] = next_number;
    __syncthreads();
    const float delta = token.beta * (token.value - token.decay * sum_of_warps(parts));
    if (warp == 0 && place.inside)
      put(args.out, row, int64_t{place.head} * in.value_dim + place.col,
          token.decay * sum_of_warps(parts + kDeltaThreads) + token.product * delta);
    each_row([&](int e, int i) { state[e] = fmaf(k[i], delta, token.decay * state[e]); });
    token = next;
    const int64_t done = past + row + 1;
    if (args.ends && done % args.block == 0) keep(args.ends + (done / args.block - 1) * in.heads * size, state);
  }
  if (args.state) keep(args.state, state);
}

/// A block a head.
LOWRANK_KERNEL(delta_rule_gradient, DeltaRuleGradientArgs, kDeltaThreads, 4) {
  const int64_t head = blockIdx.x;
  float of_weight = 0, of_bias = 0;
  for (int64_t row = threadIdx.x; row < args.tokens; row += kDeltaThreads) {
    const float d = get(args.dalpha, row, head), alpha = get(args.alpha, row, head) + args.bias[head];
    of_bias += d;
    of_weight = fmaf(d, alpha < -15.0f ? 1.0f : softplus(alpha) * (1.0f + expf(-alpha)), of_weight);
  }
  of_weight = block_sum(of_weight);
  of_bias = block_sum(of_bias);
  if (threadIdx.x != 0) return;
  if (args.dweight) args.dweight[head] += of_weight;
  if (args.dbias) args.dbias[head] += of_bias;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"

namespace lowrank::cuda {
namespace {

constexpr auto delta_gates = kernel_of<DeltaArgs>("delta_gates");
constexpr auto gated_delta_rule = kernel_of<DeltaForwardArgs>("gated_delta_rule");
constexpr auto delta_rule_gradient = kernel_of<DeltaRuleGradientArgs>("delta_rule_gradient");

void expect_size(const DeltaHeads& shape) {
  if (shape.key_dim > kMostKeyDim)
    fail("UNSUPPORTED", "the model's delta rules have keys of ", shape.key_dim, " numbers, and on CUDA they can have ",
         kMostKeyDim, " at most; use device 'cpu'");
}

/// The sequences that have tokens.
std::vector<int32_t> sequences_of(const DeltaInputs& in) {
  std::vector<int32_t> seqlens(in.host_seqlens.begin(), in.host_seqlens.end());
  seqlens.erase(std::unique(seqlens.begin(), seqlens.end()), seqlens.end());
  return seqlens;
}

}  // namespace

DeltaArgs delta_arguments(const DeltaInputs& in, Layout& room) {
  const auto& [heads, key_heads, key_dim, value_dim] = in.shape;
  expect_size(in.shape);
  DeltaArgs args{};
  args.x = cells_of(in.x);
  args.beta = cells_of(in.beta);
  args.alpha = cells_of(in.alpha);
  args.weight = device_pointer(in.weight);
  args.bias = device_pointer(in.bias);
  args.seqlens = device_pointer(room.take<int32_t>(in.tokens + 1));
  args.norms = device_pointer(room.take<float>(in.tokens * key_heads * 3));
  args.gates = device_pointer(room.take<float>(in.tokens * heads * 3));
  args.tokens = in.tokens;
  args.heads = heads;
  args.key_heads = key_heads;
  args.key_dim = key_dim;
  args.value_dim = value_dim;
  args.query_factor = 1.0f / std::sqrt(static_cast<float>(key_dim));
  return args;
}

void prepare_delta(Launcher& launcher, const DeltaInputs& in, DeltaArgs& args, Ptr<std::byte> workspace) {
  const std::vector<int32_t> seqlens = sequences_of(in);
  args.sequences = static_cast<int32_t>(seqlens.size()) - 1;
  if (args.sequences == 1)
    args.seqlens = nullptr;  // such launches are the same for all tokens of a text
  else
    launcher.upload(workspace, seqlens.data(), static_cast<int64_t>(seqlens.size() * sizeof(int32_t)));
  launcher.launch(delta_gates, {args.tokens}, kDeltaThreads, args);
}

int64_t workspace(const Card&, const GatedDeltaRule& k) {
  Layout room;
  delta_arguments(k.in, room);
  return room.bytes();
}

void run(Launcher& launcher, const GatedDeltaRule& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaForwardArgs args{};
  args.in = delta_arguments(k.in, room);
  prepare_delta(launcher, k.in, args.in, workspace);
  args.out = cells_of(k.out);
  args.positions = device_pointer(k.positions);
  args.state = device_pointer(k.state);
  // The address is that of the first block, so that launches are the same for all tokens.
  if (k.ends) args.ends = device_pointer(k.ends + -(k.past / k.block) * k.in.shape.state());
  args.block = k.block;
  launcher.launch(gated_delta_rule, {int64_t{args.in.sequences} * k.in.shape.heads, column_tiles(k.in.shape)},
                  kDeltaThreads, args);
}

void run(Launcher& launcher, const DeltaRuleGradient& k, Ptr<std::byte>) {
  launcher.launch(delta_rule_gradient, {k.heads}, kDeltaThreads,
                  {k.tokens, cells_of(k.alpha), cells_of(k.dalpha), device_pointer(k.bias), device_pointer(k.dweight),
                   device_pointer(k.dbias)});
}

}  // namespace lowrank::cuda

#endif
