// The backward pass of the gated delta rule: a block goes back over chunks of a sequence, whose states it computes
// again.
#include "delta_rule.h"

namespace lowrank::cuda {

/// Tokens whose states are computed again at a time.
inline constexpr int kDeltaTokens = 64;
/// Sums of a token and tile that the gradients of beta and g are made of: one of beta, and one of g a warp.
inline constexpr int kDeltaGateSums = 1 + kDeltaWarps;

struct DeltaBackwardArgs {
  DeltaArgs in;
  const float* ends;
  Cells dout, dx, dbeta, dalpha;
  float* states;     // of each block: [kDeltaTokens, key_dim, kDeltaCols]
  float* parts;      // [heads, tiles, tokens, kDeltaThreads]: dq and dk, by warp and lane
  float* gate_sums;  // [heads, tiles, tokens, kDeltaGateSums]
  int64_t tiles;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "delta_rule.cuh"

namespace lowrank::cuda {
namespace {

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

}  // namespace

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

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

namespace lowrank::cuda {
namespace {

constexpr auto gated_delta_rule_backward = kernel_of<DeltaBackwardArgs>("gated_delta_rule_backward");
constexpr auto delta_inputs_gradient = kernel_of<DeltaBackwardArgs>("delta_inputs_gradient");

/// Blocks of the backward pass, each of which has room for the states of a chunk.
constexpr int64_t kMostBackwardBlocks = 128;

/// More tokens than sequences: planning knows no sequences.
int64_t backward_blocks(const DeltaInputs& in) {
  return std::min(kMostBackwardBlocks, in.tokens * in.shape.heads * column_tiles(in.shape));
}

DeltaBackwardArgs arguments(const GatedDeltaRuleBackward& k, Layout& room) {
  const int64_t tiles = column_tiles(k.in.shape), rows = k.in.shape.heads * tiles * k.in.tokens;
  DeltaBackwardArgs args{};
  args.in = delta_arguments(k.in, room);
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

int64_t workspace(const Card&, const GatedDeltaRuleBackward& k) {
  Layout room;
  arguments(k, room);
  return room.bytes();
}

void run(Launcher& launcher, const GatedDeltaRuleBackward& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaBackwardArgs args = arguments(k, room);
  prepare_delta(launcher, k.in, args.in, workspace);
  const int64_t units = int64_t{args.in.sequences} * k.in.shape.heads * args.tiles;
  launcher.launch(gated_delta_rule_backward, {std::min(units, backward_blocks(k.in))}, kDeltaThreads, args);
  launcher.launch(delta_inputs_gradient, {k.in.tokens}, kDeltaThreads, args);
}

}  // namespace lowrank::cuda

#endif
