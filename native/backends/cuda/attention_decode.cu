// Attention of few tokens to many cached keys, and the cache: a block has a stretch of the keys and all rows of a head
// of keys, and the stretches are added up in their order.
#include "attention.h"
#include "cells.h"

namespace lowrank::cuda {

/// Keys and values [tokens, cols] to their rows of the cache; block (.., .., 0) has keys, and (.., .., 1) values.
struct AppendToCacheArgs {
  Tiles tiles;
  const int32_t* positions;  // [1], of the first token
  Cells k, v, cached_k, cached_v;
};

/// Few queries over many keys: block (split, kv head, group of rows) sees keys [split range, (split + 1) range). Rows
/// are the queries of a kv head, query by query and of each its heads.
struct DecodeArgs {
  /// [1], of the first token: the keys that came before, which the card counts so that arguments stay the same. Null:
  /// `past`.
  const int32_t* positions;
  int32_t tokens, past;
  int32_t heads, kv_heads, head_dim, window;
  float scale;
  int32_t unused = 0;
  const void *q, *k, *v;
  int64_t q_ld, k_ld, v_ld;
  float* parts;  // [kMostSplits, tokens, heads, head_dim] not yet divided
  float* tops;   // [kMostSplits, tokens, heads] and the sums behind them
  void* out;
  int64_t out_ld;
  float* lse;
};

inline constexpr int32_t kMostSplits = 64, kLeastRange = 128;  // of keys
/// Keys of a split, and the splits that there are.
constexpr int32_t decoded_range(int32_t keys) {
  const int32_t each = (keys + kMostSplits - 1) / kMostSplits;
  return (each + kLeastRange - 1) / kLeastRange * kLeastRange;
}
constexpr int32_t decoded_splits(int32_t keys) { return (keys + decoded_range(keys) - 1) / decoded_range(keys); }

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "attention.cuh"
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

constexpr int kThreads = 32 * kAttentionRows;

/// Adds the products of Rows queries in shared memory with one key.
template <class T, int Rows>
LOWRANK_DEVICE void add_scores(const float (&q)[Rows][kAttentionCols], const T* key, int d, float (&scores)[Rows]) {
  constexpr int kCount = Pack<T>::kCount;
  int c = 0;
  if (aligned16(key)) {
    for (; c + kCount <= d; c += kCount) {
      const Pack<T> pack = load16(key + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const float at = to_float(pack.at[i]);
#pragma unroll
        for (int r = 0; r < Rows; ++r) scores[r] = fmaf(q[r][c + i], at, scores[r]);
      }
    }
  }
  for (; c < d; ++c) {
    const float at = to_float(key[c]);
#pragma unroll
    for (int r = 0; r < Rows; ++r) scores[r] = fmaf(q[r][c], at, scores[r]);
  }
}

template <class T, int Rows>
LOWRANK_DEVICE void decode(const DecodeArgs& args) {
  LOWRANK_SHARED(float, q, [Rows][kAttentionCols]);
  LOWRANK_SHARED(float, out, [kAttentionRows][Rows][kAttentionCols]);
  LOWRANK_SHARED(float, tops, [kAttentionRows][Rows]);
  LOWRANK_SHARED(float, totals, [kAttentionRows][Rows]);
  const int d = args.head_dim, group = args.heads / args.kv_heads, all = args.tokens * group;
  const int split = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y);
  const int first_row = static_cast<int>(blockIdx.z) * Rows;
  const int thread = static_cast<int>(threadIdx.x), lane = lane_of(), warp = warp_of();
  for (int at = thread; at < Rows * d; at += kThreads) {
    const int r = at / d, c = at % d, row = min(first_row + r, all - 1);
    q[r][c] = to_float(head_row<T>(args.q, row / group, args.q_ld, kv_head * group + row % group, d)[c]);
  }
  __syncthreads();
  const T* const k = head_row<T>(args.k, 0, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, 0, args.v_ld, kv_head, d);
  // Keys that the row sees are from first to visible; no row of the block sees others than from `least` to `end`.
  const int past = args.positions ? args.positions[0] : args.past, range = decoded_range(past + args.tokens);
  const int last_row = min(first_row + Rows, all) - 1;
  const int least = max(max(past + first_row / group + 1 - args.window, 0), split * range);
  const int end = min(past + last_row / group + 1, (split + 1) * range);
  float top[Rows], total[Rows], sums[Rows][kPerLane];
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    top[r] = -kInfinity;
    total[r] = 0;
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) sums[r][e] = 0;
  }
  for (int begin = split * range + 32 * warp; begin < end; begin += kThreads) {
    if (begin + 32 <= least) continue;
    const int key = begin + lane;
    float p[Rows];
#pragma unroll
    for (int r = 0; r < Rows; ++r) p[r] = 0;
    if (key >= least && key < end) add_scores<T, Rows>(q, k + key * args.k_ld, d, p);
#pragma unroll
    for (int r = 0; r < Rows; ++r) {
      const int visible = past + min(first_row + r, all - 1) / group + 1;
      const bool sees = key < visible && key >= visible - args.window && key >= least && key < end;
      const float score = sees ? p[r] * args.scale : -kInfinity;
      const float most = fmaxf(top[r], warp_max(score)), shift = most > -kInfinity ? most : 0;
      const float factor = expf(top[r] - shift);
      p[r] = expf(score - shift);
      total[r] = total[r] * factor + warp_sum(p[r]);
      top[r] = most;
#pragma unroll
      for (int e = 0; e < kPerLane; ++e) sums[r][e] *= factor;
    }
    for (int j = max(least - begin, 0); j < min(32, end - begin); ++j) {
      const T* const value = v + (begin + j) * args.v_ld;
      float at[kPerLane];
#pragma unroll
      for (int e = 0; e < kPerLane; ++e) at[e] = lane + 32 * e < d ? to_float(value[lane + 32 * e]) : 0;
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        const float weight = __shfl_sync(kAllLanes, p[r], j);
#pragma unroll
        for (int e = 0; e < kPerLane; ++e) sums[r][e] = fmaf(weight, at[e], sums[r][e]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
    if (lane == 0) {
      tops[warp][r] = top[r];
      totals[warp][r] = total[r];
    }
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) out[warp][r][lane + 32 * e] = sums[r][e];
  }
  __syncthreads();
  const int64_t queries = int64_t{args.tokens} * args.heads;
  for (int at = thread; at < Rows * d; at += kThreads) {
    const int r = at / d, c = at % d, row = first_row + r;
    if (row >= all) continue;
    float most = -kInfinity, whole = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kAttentionRows; ++w) most = fmaxf(most, tops[w][r]);
#pragma unroll
    for (int w = 0; w < kAttentionRows; ++w) {
      if (totals[w][r] == 0) continue;
      const float factor = expf(tops[w][r] - most);
      whole = fmaf(factor, totals[w][r], whole);
      value = fmaf(factor, out[w][r][c], value);
    }
    const int64_t query = int64_t{row / group} * args.heads + kv_head * group + row % group,
                  part = split * queries + query;
    args.parts[part * d + c] = value;
    if (c > 0) continue;
    args.tops[part] = most;
    args.tops[kMostSplits * queries + part] = whole;
  }
}

/// Adds the parts of a query in the order of their keys.
template <class T>
LOWRANK_DEVICE void combine(const DecodeArgs& args) {
  const int64_t query = blockIdx.x, queries = int64_t{args.tokens} * args.heads;
  const float* const totals = args.tops + kMostSplits * queries;
  const int splits = decoded_splits((args.positions ? args.positions[0] : args.past) + args.tokens);
  float top = -kInfinity, total = 0;
  for (int split = 0; split < splits; ++split) top = fmaxf(top, args.tops[split * queries + query]);
  for (int split = 0; split < splits; ++split) {
    const int64_t part = split * queries + query;
    if (totals[part] != 0) total = fmaf(expf(args.tops[part] - top), totals[part], total);
  }
  const int64_t token = query / args.heads, head = query % args.heads;
  T* const out = static_cast<T*>(args.out) + token * args.out_ld + head * args.head_dim;
  for (int c = static_cast<int>(threadIdx.x); c < args.head_dim; c += kThreads) {
    float value = 0;
    for (int split = 0; split < splits; ++split) {
      const int64_t part = split * queries + query;
      if (totals[part] != 0) value = fmaf(expf(args.tops[part] - top), args.parts[part * args.head_dim + c], value);
    }
    out[c] = from_float<T>(value / total);
  }
  if (args.lse && threadIdx.x == 0) args.lse[query] = top + logf(total);
}

}  // namespace

LOWRANK_KERNEL(append_to_cache, AppendToCacheArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  const bool keys = blockIdx.z == 0;
  float values[8];
  load(values, keys ? args.k : args.v, spot);
  store(keys ? args.cached_k : args.cached_v, values, args.positions[0] + spot.row, spot.col, spot.count);
}
LOWRANK_KERNEL(attention_decode_f32_1, DecodeArgs, 128, 4) { decode<float, 1>(args); }
LOWRANK_KERNEL(attention_decode_f32_8, DecodeArgs, 128, 2) { decode<float, 8>(args); }
LOWRANK_KERNEL(attention_decode_bf16_1, DecodeArgs, 128, 4) { decode<__nv_bfloat16, 1>(args); }
LOWRANK_KERNEL(attention_decode_bf16_4, DecodeArgs, 128, 4) { decode<__nv_bfloat16, 4>(args); }
LOWRANK_KERNEL(attention_decode_bf16_8, DecodeArgs, 128, 2) { decode<__nv_bfloat16, 8>(args); }
LOWRANK_KERNEL(attention_combine_f32, DecodeArgs, 128, 4) { combine<float>(args); }
LOWRANK_KERNEL(attention_combine_bf16, DecodeArgs, 128, 4) { combine<__nv_bfloat16>(args); }

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "core/math.h"

namespace lowrank::cuda {
namespace {

constexpr auto append_to_cache = kernel_of<AppendToCacheArgs>("append_to_cache");
// By the type of the operands and the rows of a block.
constexpr auto attention_decode_f32_1 = kernel_of<DecodeArgs>("attention_decode_f32_1");
constexpr auto attention_decode_f32_8 = kernel_of<DecodeArgs>("attention_decode_f32_8");
constexpr auto attention_decode_bf16_1 = kernel_of<DecodeArgs>("attention_decode_bf16_1");
constexpr auto attention_decode_bf16_4 = kernel_of<DecodeArgs>("attention_decode_bf16_4");
constexpr auto attention_decode_bf16_8 = kernel_of<DecodeArgs>("attention_decode_bf16_8");
constexpr auto attention_combine_f32 = kernel_of<DecodeArgs>("attention_combine_f32");
constexpr auto attention_combine_bf16 = kernel_of<DecodeArgs>("attention_combine_bf16");

/// Queries that are decoded together rather than tile by tile.
int64_t decoded_tokens(const Heads& heads) { return std::max(1, 8 / (heads.heads / heads.kv_heads)); }

}  // namespace

bool decodes(const Attention& k) {
  return k.keys > k.tokens && k.tokens <= decoded_tokens(k.shape) && k.shape.head_dim <= kAttentionCols;
}

int64_t decode_workspace(const Attention& k) {
  const int64_t decoded = std::min(k.tokens, decoded_tokens(k.shape)) * k.shape.heads;
  return round_up(int64_t{kMostSplits} * decoded * (k.shape.head_dim + 2) * 4, 256);
}

void decode(Launcher& launcher, const Attention& k, Ptr<std::byte> workspace) {
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  DecodeArgs args{};
  args.positions = device_pointer(k.positions);
  args.tokens = static_cast<int32_t>(k.tokens);
  args.past = k.positions ? 0 : static_cast<int32_t>(k.keys - k.tokens);
  args.heads = heads;
  args.kv_heads = kv_heads;
  args.head_dim = head_dim;
  args.window = window_of(k.shape);
  args.scale = scale;
  args.q = device_pointer(k.q.data);
  args.k = device_pointer(k.k.data);
  args.v = device_pointer(k.v.data);
  args.q_ld = k.q.ld;
  args.k_ld = k.k.ld;
  args.v_ld = k.v.ld;
  const Ptr<float> parts = workspace.as<float>();
  args.parts = device_pointer(parts);
  args.tops = device_pointer(parts + int64_t{kMostSplits} * k.tokens * heads * head_dim);
  args.out = device_pointer(k.out.data);
  args.out_ld = k.out.ld;
  args.lse = device_pointer(k.lse);
  const int64_t rows = k.tokens * (heads / kv_heads);
  const bool bf16 = k.q.dtype == DType::bf16;
  const int64_t together = rows == 1 ? 1 : bf16 && rows <= 4 ? 4 : 8;
  const KernelOf<DecodeArgs>& kernel = !bf16 ? (together == 1 ? attention_decode_f32_1 : attention_decode_f32_8)
                                       : together == 1 ? attention_decode_bf16_1
                                       : together == 4 ? attention_decode_bf16_4
                                                       : attention_decode_bf16_8;
  launcher.launch(kernel, {decoded_splits(static_cast<int32_t>(k.keys)), kv_heads, ceil_div(rows, together)},
                  32 * kAttentionRows, args);
  launcher.launch(bf16 ? attention_combine_bf16 : attention_combine_f32, {k.tokens * heads}, 32 * kAttentionRows, args);
}

void run(Launcher& launcher, const AppendToCache& k, Ptr<std::byte>) {
  const AppendToCacheArgs args{
      tiles_of(k.tokens, k.cols),     device_pointer(k.positions),   cells_of(k.k), cells_of(k.v),
      cells_of(k.to_k.rows(-k.past)), cells_of(k.to_v.rows(-k.past))};
  Grid blocks = grid_of(args.tiles);
  blocks.z = 2;
  launcher.launch(append_to_cache, blocks, kTileThreads, args);
}

}  // namespace lowrank::cuda

#endif
