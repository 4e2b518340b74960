// The gated delta rule. A block has 32 columns of the state of a head, whose rows its warps share: a thread has rows
// `warp`, `warp` + 8, ... of one column in registers.
#include "cells.h"

namespace lowrank::cuda {

inline constexpr int kDeltaWarps = 8, kDeltaThreads = 32 * kDeltaWarps, kDeltaCols = 32;
/// Rows of a state that a thread has, at most.
inline constexpr int kDeltaRows = 16, kMostKeyDim = kDeltaRows * kDeltaWarps;
/// Tokens whose states the backward pass recomputes at a time.
inline constexpr int kDeltaTokens = 64;
/// Sums of a token and tile that the gradients of beta and g are made of: one of beta, and one of g a warp.
inline constexpr int kDeltaGateSums = 1 + kDeltaWarps;

struct DeltaArgs {
  Cells x, beta, alpha;
  const float *weight, *bias;
  float* norms;            // [tokens, key_heads, 3]: 1 / norm of q, with the root of key_dim, and of k; their product
  float* gates;            // [tokens, heads, 3]: sigmoid(beta), e^g, slope of g in alpha
  const int32_t* seqlens;  // null: one sequence of all tokens
  int64_t tokens;
  int32_t sequences, heads, key_heads, key_dim, value_dim;
  float query_factor;
};
/// `state` is read if positions[0] is not 0; `ends` begins with the first block of the text. All three may be null.
struct DeltaForwardArgs {
  DeltaArgs in;
  Cells out;
  const int32_t* positions;
  float *state, *ends;
  int64_t block;
};
struct DeltaBackwardArgs {
  DeltaArgs in;
  const float* ends;
  Cells dout, dx, dbeta, dalpha;
  float* states;     // of each block: [kDeltaTokens, key_dim, kDeltaCols]
  float* parts;      // [heads, tiles, tokens, kDeltaThreads]: dq and dk, by warp and lane
  float* gate_sums;  // [heads, tiles, tokens, kDeltaGateSums]
  int64_t tiles;
};
struct DeltaRuleGradientArgs {
  int64_t tokens;
  Cells alpha, dalpha;
  const float* bias;
  float *dweight, *dbias;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

constexpr int kBuffers = 3;  // of queries and keys: one is filled while others may still be read

LOWRANK_DEVICE int lane_of() { return static_cast<int>(threadIdx.x) & 31; }
LOWRANK_DEVICE int warp_of() { return static_cast<int>(threadIdx.x) >> 5; }

LOWRANK_DEVICE float get(const Cells& from, int64_t row, int64_t col) {
  const int64_t at = row * from.ld + col;
  return from.element == Element::f32 ? static_cast<const float*>(from.data)[at]
                                      : to_float(static_cast<const __nv_bfloat16*>(from.data)[at]);
}
LOWRANK_DEVICE void put(const Cells& to, int64_t row, int64_t col, float value) {
  const int64_t at = row * to.ld + col;
  if (to.element == Element::f32)
    static_cast<float*>(to.data)[at] = value;
  else
    static_cast<__nv_bfloat16*>(to.data)[at] = from_float<__nv_bfloat16>(value);
}

LOWRANK_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }
LOWRANK_DEVICE float softplus(float v) { return v > 0 ? v + log1pf(expf(-v)) : log1pf(expf(v)); }

/// A head of a sequence, and the column of this thread.
struct Place {
  int64_t begin, end;
  int head, key_head, col;
  bool inside;
};
LOWRANK_DEVICE Place place_of(const DeltaArgs& in, int64_t unit, int tile) {
  Place place;
  const int64_t sequence = unit / in.heads;
  place.head = static_cast<int>(unit % in.heads);
  place.key_head = place.head / (in.heads / in.key_heads);
  place.begin = in.seqlens ? in.seqlens[sequence] : 0;
  place.end = in.seqlens ? in.seqlens[sequence + 1] : in.tokens;
  place.col = tile * kDeltaCols + lane_of();
  place.inside = place.col < in.value_dim;
  return place;
}

/// Numbers of a token for one thread, beside queries and keys; zeros after the last one.
struct Token {
  float value, beta, decay, product;
};
LOWRANK_DEVICE Token token_of(const DeltaArgs& in, const Place& place, int64_t row) {
  Token token{};
  if (row >= place.end) return token;
  if (place.inside)
    token.value =
        get(in.x, row, int64_t{2} * in.key_heads * in.key_dim + int64_t{place.head} * in.value_dim + place.col);
  const float* const gates = in.gates + (row * in.heads + place.head) * 3;
  token.beta = gates[0];
  token.decay = gates[1];
  token.product = in.norms[(row * in.key_heads + place.key_head) * 3 + 2];
  return token;
}

/// A number of the query (threads of the first half) or the key of a row, over its norm.
LOWRANK_DEVICE float unit_number(const DeltaArgs& in, const Place& place, int64_t row) {
  const int i = static_cast<int>(threadIdx.x) % kMostKeyDim, which = static_cast<int>(threadIdx.x) / kMostKeyDim;
  if (row < place.begin || row >= place.end || i >= in.key_dim) return 0;
  const int64_t first = (int64_t{which} * in.key_heads + place.key_head) * in.key_dim;
  return get(in.x, row, first + i) * in.norms[(row * in.key_heads + place.key_head) * 3 + which];
}

/// Adds each of 2 kHalf numbers over the lanes of a warp that differ in their last bits; lane i gets the sum of the
/// i-th.
template <int kHalf>
LOWRANK_DEVICE float scatter_sums(const float (&v)[2 * kHalf]) {
  const bool high = (lane_of() & kHalf) != 0;
  float sums[kHalf];
#pragma unroll
  for (int i = 0; i < kHalf; ++i)
    sums[i] = (high ? v[i + kHalf] : v[i]) + __shfl_xor_sync(kAllLanes, high ? v[i] : v[i + kHalf], kHalf);
  if constexpr (kHalf == 1)
    return sums[0];
  else
    return scatter_sums<kHalf / 2>(sums);
}

LOWRANK_DEVICE float sum_of_warps(const float* parts) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kDeltaWarps; ++w) sum += parts[w * kDeltaCols + lane_of()];
  return sum;
}

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

/// Blocks take turns at the heads and tiles of all sequences.
LOWRANK_KERNEL(gated_delta_rule_backward, DeltaBackwardArgs, kDeltaThreads, 1) {
  LOWRANK_SHARED(float, vectors, [kBuffers * 2 * kMostKeyDim]);
  LOWRANK_SHARED(float, sums, [2 * kDeltaThreads]);
  LOWRANK_SHARED(float, errors, [kDeltaTokens * kDeltaCols]);
  const DeltaArgs& in = args.in;
  const int64_t size = int64_t{in.key_dim} * in.value_dim, units = int64_t{in.sequences} * in.heads * args.tiles;
  const int warp = warp_of(), lane = lane_of(), thread = static_cast<int>(threadIdx.x);
  float* const states = args.states + static_cast<int64_t>(blockIdx.x) * kDeltaTokens * in.key_dim * kDeltaCols + lane;
  const auto each_row = [&](auto&& body) {
#pragma unroll
    for (int e = 0; e < kDeltaRows; ++e)
      if (warp + e * kDeltaWarps < in.key_dim) body(e, warp + e * kDeltaWarps);
  };
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int tile = static_cast<int>(unit % args.tiles);
    const Place place = place_of(in, unit / args.tiles, tile);
    const int64_t part = (int64_t{place.head} * args.tiles + tile) * in.tokens;
    float gradient[kDeltaRows] = {};
    for (int64_t last = place.end; last > place.begin;) {
      const int64_t aligned = (last - 1) / kDeltaTokens * kDeltaTokens,
                    begin = aligned > place.begin ? aligned : place.begin;
      float state[kDeltaRows] = {};
      if (begin > place.begin && place.inside) {
        const float* const from = args.ends + ((begin / kDeltaTokens - 1) * in.heads + place.head) * size + place.col;
        each_row([&](int e, int i) { state[e] = from[int64_t{i} * in.value_dim]; });
      }
      __syncthreads();
      vectors[thread] = unit_number(in, place, begin);
      __syncthreads();
      int buffer = 0;
      for (int64_t row = begin; row < last; ++row) {  // the states again
        const int t = static_cast<int>(row - begin);
        const float next_number = unit_number(in, place, row + 1);
        const Token token = token_of(in, place, row);
        const float* const k = vectors + buffer * 2 * kMostKeyDim + kMostKeyDim;
        float along_key = 0;
        each_row([&](int e, int i) {
          states[(int64_t{t} * in.key_dim + i) * kDeltaCols] = state[e];
          along_key = fmaf(state[e], k[i], along_key);
        });
        float* const parts = sums + (row & 1) * kDeltaThreads;
        parts[thread] = along_key;
        buffer = buffer + 1 < kBuffers ? buffer + 1 : 0;
        vectors[buffer * 2 * kMostKeyDim + thread] = next_number;
        __syncthreads();
        const float error = token.value - token.decay * sum_of_warps(parts);
        if (warp == 0) errors[t * kDeltaCols + lane] = error;
        each_row([&](int e, int i) { state[e] = fmaf(k[i], token.beta * error, token.decay * state[e]); });
      }
      __syncthreads();
      vectors[thread] = unit_number(in, place, last - 1);
      __syncthreads();
      buffer = 0;
      for (int64_t row = last - 1; row >= begin; --row) {
        const int t = static_cast<int>(row - begin);
        const float next_number = row > begin ? unit_number(in, place, row - 1) : 0;
        const Token token = token_of(in, place, row);
        const float dout = place.inside ? get(args.dout, row, int64_t{place.head} * in.value_dim + place.col) : 0;
        const float* const q = vectors + buffer * 2 * kMostKeyDim;
        const float* const k = q + kMostKeyDim;
        float ddelta = 0;
        each_row([&](int e, int i) {
          state[e] = states[(int64_t{t} * in.key_dim + i) * kDeltaCols];
          gradient[e] = fmaf(q[i], dout, gradient[e]);
          ddelta = fmaf(gradient[e], k[i], ddelta);
        });
        float* const parts = sums + (row & 1) * kDeltaThreads;
        parts[thread] = ddelta;
        buffer = buffer + 1 < kBuffers ? buffer + 1 : 0;
        vectors[buffer * 2 * kMostKeyDim + thread] = next_number;
        __syncthreads();
        ddelta = sum_of_warps(parts);
        const float error = errors[t * kDeltaCols + lane], delta = token.beta * error, dv = token.beta * ddelta;
        float products[2 * kDeltaRows] = {}, of_g = 0;
        each_row([&](int e, int i) {
          const float decayed = token.decay * state[e];
          products[e] = fmaf(k[i], delta, decayed) * dout;
          products[kDeltaRows + e] = gradient[e] * delta - decayed * dv;
          const float less = fmaf(-k[i], dv, gradient[e]);
          of_g = fmaf(less, decayed, of_g);
          gradient[e] = token.decay * less;
        });
        args.parts[(part + row) * kDeltaThreads + thread] = scatter_sums<kDeltaRows>(products);
        of_g = warp_sum(of_g);
        float* const gate_sums = args.gate_sums + (part + row) * kDeltaGateSums;
        if (lane == 0) gate_sums[1 + warp] = of_g;
        if (warp != 0) continue;
        const float of_beta = warp_sum(ddelta * error);
        if (lane == 0) gate_sums[0] = of_beta;
        if (place.inside)
          put(args.dx, row, int64_t{2} * in.key_heads * in.key_dim + int64_t{place.head} * in.value_dim + place.col,
              dv);
      }
      last = begin;
    }
  }
}

/// A block a token: adds up what the tiles and heads left for queries, keys, and gates.
LOWRANK_KERNEL(delta_inputs_gradient, DeltaBackwardArgs, kDeltaThreads, 4) {
  constexpr int kPerLane = kMostKeyDim / 32;
  const DeltaArgs& in = args.in;
  const int64_t row = blockIdx.x;
  const int group = in.heads / in.key_heads;
  for (int unit = warp_of(); unit < 2 * in.key_heads; unit += kDeltaWarps) {
    const int head = unit >> 1, keys = unit & 1;
    const float factor = keys ? 1.0f : in.query_factor;
    const float over = in.norms[(row * in.key_heads + head) * 3 + keys] / factor;
    const int64_t first = (int64_t{keys} * in.key_heads + head) * in.key_dim;
    float gradient[kPerLane] = {}, y[kPerLane] = {}, along = 0;
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) {
      const int i = lane_of() + 32 * e;
      if (i >= in.key_dim) continue;
      const int place = i % kDeltaWarps * 32 + keys * kDeltaRows + i / kDeltaWarps;
      for (int64_t p = int64_t{head} * group * args.tiles; p < int64_t{head + 1} * group * args.tiles; ++p)
        gradient[e] += args.parts[(p * in.tokens + row) * kDeltaThreads + place];
      gradient[e] *= factor;
      y[e] = get(in.x, row, first + i) * over;
      along = fmaf(gradient[e], y[e], along);
    }
    along = warp_sum(along);
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (lane_of() + 32 * e < in.key_dim)
        put(args.dx, row, first + lane_of() + 32 * e, over * (gradient[e] - y[e] * along));
  }
  for (int head = static_cast<int>(threadIdx.x); head < in.heads; head += kDeltaThreads) {
    float of_beta = 0, of_g = 0;
    for (int64_t p = int64_t{head} * args.tiles; p < int64_t{head + 1} * args.tiles; ++p) {
      const float* const sums = args.gate_sums + (p * in.tokens + row) * kDeltaGateSums;
      of_beta += sums[0];
#pragma unroll
      for (int w = 0; w < kDeltaWarps; ++w) of_g += sums[1 + w];
    }
    const float* const gates = in.gates + (row * in.heads + head) * 3;
    put(args.dbeta, row, head, of_beta * gates[0] * (1.0f - gates[0]));
    put(args.dalpha, row, head, of_g * gates[2]);
  }
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
#include "core/math.h"
#include "device/layout.h"

namespace lowrank::cuda {
namespace {

constexpr auto delta_gates = kernel_of<DeltaArgs>("delta_gates");
constexpr auto gated_delta_rule = kernel_of<DeltaForwardArgs>("gated_delta_rule");
constexpr auto gated_delta_rule_backward = kernel_of<DeltaBackwardArgs>("gated_delta_rule_backward");
constexpr auto delta_inputs_gradient = kernel_of<DeltaBackwardArgs>("delta_inputs_gradient");
constexpr auto delta_rule_gradient = kernel_of<DeltaRuleGradientArgs>("delta_rule_gradient");

/// Blocks of the backward pass, each of which has room for the states of a chunk.
constexpr int64_t kMostBackwardBlocks = 128;

int64_t column_tiles(const DeltaHeads& shape) { return ceil_div(shape.value_dim, kDeltaCols); }

/// More tokens than sequences: planning knows no sequences.
int64_t backward_blocks(const DeltaInputs& in) {
  return std::min(kMostBackwardBlocks, in.tokens * in.shape.heads * column_tiles(in.shape));
}

void expect_size(const DeltaHeads& shape) {
  if (shape.key_dim > kMostKeyDim)
    fail("UNSUPPORTED", "the model's delta rules have keys of ", shape.key_dim, " numbers, and on CUDA they can have ",
         kMostKeyDim, " at most; use device 'cpu'");
}

/// Takes the sequences, which come first, the norms, and the gates from the workspace.
DeltaArgs arguments(const DeltaInputs& in, Layout& room) {
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

/// The sequences that have tokens.
std::vector<int32_t> sequences_of(const DeltaInputs& in) {
  std::vector<int32_t> seqlens(in.host_seqlens.begin(), in.host_seqlens.end());
  seqlens.erase(std::unique(seqlens.begin(), seqlens.end()), seqlens.end());
  return seqlens;
}

void prepare(Launcher& launcher, const DeltaInputs& in, DeltaArgs& args, Ptr<std::byte> workspace) {
  const std::vector<int32_t> seqlens = sequences_of(in);
  args.sequences = static_cast<int32_t>(seqlens.size()) - 1;
  if (args.sequences == 1)
    args.seqlens = nullptr;  // such launches are the same for all tokens of a text
  else
    launcher.upload(workspace, seqlens.data(), static_cast<int64_t>(seqlens.size() * sizeof(int32_t)));
  launcher.launch(delta_gates, {args.tokens}, kDeltaThreads, args);
}

DeltaBackwardArgs arguments(const GatedDeltaRuleBackward& k, Layout& room) {
  const int64_t tiles = column_tiles(k.in.shape), rows = k.in.shape.heads * tiles * k.in.tokens;
  DeltaBackwardArgs args{};
  args.in = arguments(k.in, room);
  args.ends = device_pointer(k.ends);
  args.dout = cells_of(k.dout);
  args.dx = cells_of(k.dx);
  args.dbeta = cells_of(k.dbeta);
  args.dalpha = cells_of(k.dalpha);
  args.states =
      device_pointer(room.take<float>(backward_blocks(k.in) * kDeltaTokens * k.in.shape.key_dim * kDeltaCols));
  args.parts = device_pointer(room.take<float>(rows * kDeltaThreads));
  args.gate_sums = device_pointer(room.take<float>(rows * kDeltaGateSums));
  args.tiles = tiles;
  return args;
}

}  // namespace

void run(Launcher& launcher, const GatedDeltaRule& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaForwardArgs args{};
  args.in = arguments(k.in, room);
  prepare(launcher, k.in, args.in, workspace);
  args.out = cells_of(k.out);
  args.positions = device_pointer(k.positions);
  args.state = device_pointer(k.state);
  // The address is that of the first block, so that launches are the same for all tokens.
  if (k.ends) args.ends = device_pointer(k.ends + -(k.past / k.block) * k.in.shape.state());
  args.block = k.block;
  launcher.launch(gated_delta_rule, {int64_t{args.in.sequences} * k.in.shape.heads, column_tiles(k.in.shape)},
                  kDeltaThreads, args);
}

void run(Launcher& launcher, const GatedDeltaRuleBackward& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaBackwardArgs args = arguments(k, room);
  prepare(launcher, k.in, args.in, workspace);
  const int64_t units = int64_t{args.in.sequences} * k.in.shape.heads * args.tiles;
  launcher.launch(gated_delta_rule_backward, {std::min(units, backward_blocks(k.in))}, kDeltaThreads, args);
  launcher.launch(delta_inputs_gradient, {k.in.tokens}, kDeltaThreads, args);
}

void run(Launcher& launcher, const DeltaRuleGradient& k, Ptr<std::byte>) {
  launcher.launch(delta_rule_gradient, {k.heads}, kDeltaThreads,
                  {k.tokens, cells_of(k.alpha), cells_of(k.dalpha), device_pointer(k.bias), device_pointer(k.dweight),
                   device_pointer(k.dbias)});
}

int64_t workspace(const Card&, const GatedDeltaRule& k) {
  Layout room;
  arguments(k.in, room);
  return room.bytes();
}

int64_t workspace(const Card&, const GatedDeltaRuleBackward& k) {
  Layout room;
  arguments(k, room);
  return room.bytes();
}

}  // namespace lowrank::cuda

#endif
