// Attention with sums in fp32 for any operands: a warp a query or a key, whose lanes have 32 keys or queries at a time,
// then the columns of the head.
#include "attention.h"
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);
constexpr int kThreads = 32 * kAttentionRows;
constexpr int kPerLane = kAttentionCols / 32;

LOWRANK_DEVICE int lane_of() { return static_cast<int>(threadIdx.x) & 31; }
LOWRANK_DEVICE int warp_of() { return static_cast<int>(threadIdx.x) >> 5; }

template <class T>
LOWRANK_DEVICE const T* head_row(const void* data, int64_t row, int64_t ld, int head, int head_dim) {
  return static_cast<const T*>(data) + row * ld + int64_t{head} * head_dim;
}

template <class T>
LOWRANK_DEVICE float dot(const T* a, const T* b, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum = fmaf(to_float(a[i]), to_float(b[i]), sum);
  return sum;
}

/// Columns of a head of which each lane of a warp has every 32nd.
struct Columns {
  int first, count;
  float at[kPerLane];

  __device__ __forceinline__ Columns(int first_column, int head_dim)
      : first(first_column + lane_of()), count(head_dim) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) at[e] = 0;
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) at[e] *= factor;
  }
  template <class T>
  __device__ __forceinline__ void add(float factor, const T* row) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (first + 32 * e < count) at[e] = fmaf(factor, to_float(row[first + 32 * e]), at[e]);
  }
  template <class T>
  __device__ __forceinline__ void store(T* row) const {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (first + 32 * e < count) row[first + 32 * e] = from_float<T>(at[e]);
  }
};

template <class T>
LOWRANK_DEVICE void attend(const AttentionArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int query = tile.first + warp_of(), head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (query >= tile.count) return;
  const int kv_head = head / (args.heads / args.kv_heads);
  const int visible = args.past + query + 1;
  const T* const q = head_row<T>(args.q, int64_t{tile.begin} + query, args.q_ld, head, d);
  const T* const k = head_row<T>(args.k, tile.begin, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, tile.begin, args.v_ld, kv_head, d);
  Columns out(static_cast<int>(blockIdx.z) * kAttentionCols, d);
  float top = -kInfinity, total = 0;
  for (int begin = max(visible - args.window, 0); begin < visible; begin += 32) {
    const int key = begin + lane;
    const float score = key < visible ? args.scale * dot(q, k + key * args.k_ld, d) : -kInfinity;
    const float most = fmaxf(top, warp_max(score)), factor = expf(top - most), p = expf(score - most);
    top = most;
    total = total * factor + warp_sum(p);
    out.scale(factor);
    for (int j = 0; j < min(32, visible - begin); ++j)
      out.add(__shfl_sync(kAllLanes, p, j), v + (begin + j) * args.v_ld);
  }
  out.scale(1 / total);
  out.store(const_cast<T*>(head_row<T>(args.out, int64_t{tile.begin} + query, args.out_ld, head, d)));
  if (args.lse && lane == 0 && blockIdx.z == 0)
    args.lse[(int64_t{tile.begin} + query) * args.heads + head] = top + logf(total);
}

template <class T>
LOWRANK_DEVICE void add_up(const AttentionSumsArgs& args) {
  const int64_t token = int64_t{blockIdx.x} * kAttentionRows + warp_of();
  const int head = static_cast<int>(blockIdx.y), d = args.head_dim;
  if (token >= args.tokens) return;
  const T* const out = head_row<T>(args.out, token, args.out_ld, head, d);
  const T* const dout = head_row<T>(args.dout, token, args.dout_ld, head, d);
  float sum = 0;
  for (int c = lane_of(); c < d; c += 32) sum = fmaf(to_float(out[c]), to_float(dout[c]), sum);
  sum = warp_sum(sum);
  if (lane_of() == 0) args.sums[token * args.heads + head] = sum;
}

/// The gradient of a query: the sum over its keys of scale p (dp - the product of out and dout) k.
template <class T>
LOWRANK_DEVICE void queries_gradient(const AttentionBackwardArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int query = tile.first + warp_of(), head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (query >= tile.count) return;
  const int kv_head = head / (args.heads / args.kv_heads);
  const int64_t row = int64_t{tile.begin} + query;
  const T* const q = head_row<T>(args.q, row, args.q_ld, head, d);
  const T* const dout = head_row<T>(args.dout, row, args.dout_ld, head, d);
  const T* const k = head_row<T>(args.k, tile.begin, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, tile.begin, args.v_ld, kv_head, d);
  const float lse = args.lse[row * args.heads + head], own = args.sums[row * args.heads + head];
  Columns dq(static_cast<int>(blockIdx.z) * kAttentionCols, d);
  for (int begin = max(query + 1 - args.window, 0); begin <= query; begin += 32) {
    const int key = begin + lane;
    float ds = 0;
    if (key <= query) {
      const float p = expf(args.scale * dot(q, k + key * args.k_ld, d) - lse);
      ds = p * (dot(dout, v + key * args.v_ld, d) - own) * args.scale;
    }
    for (int j = 0; j < min(32, query + 1 - begin); ++j)
      dq.add(__shfl_sync(kAllLanes, ds, j), k + (begin + j) * args.k_ld);
  }
  __syncwarp();  // dq may be q
  dq.store(const_cast<T*>(head_row<T>(args.dq, row, args.dq_ld, head, d)));
}

/// The gradients of a key and its value, of all query heads of their group.
template <class T>
LOWRANK_DEVICE void keys_gradient(const AttentionBackwardArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int key = tile.first + warp_of(), kv_head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (key >= tile.count) return;
  const int group = args.heads / args.kv_heads;
  const int64_t row = int64_t{tile.begin} + key;
  const T* const k = head_row<T>(args.k, row, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, row, args.v_ld, kv_head, d);
  Columns dk(static_cast<int>(blockIdx.z) * kAttentionCols, d), dv = dk;
  const int last = args.window < tile.count - key ? key + args.window : tile.count;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const T* const q = head_row<T>(args.q, tile.begin, args.q_ld, head, d);
    const T* const dout = head_row<T>(args.dout, tile.begin, args.dout_ld, head, d);
    for (int begin = key; begin < last; begin += 32) {
      const int query = begin + lane;
      float p = 0, ds = 0;
      if (query < last) {
        const int64_t at = (int64_t{tile.begin} + query) * args.heads + head;
        p = expf(args.scale * dot(q + query * args.q_ld, k, d) - args.lse[at]);
        ds = p * (dot(dout + query * args.dout_ld, v, d) - args.sums[at]) * args.scale;
      }
      for (int i = 0; i < min(32, last - begin); ++i) {
        dk.add(__shfl_sync(kAllLanes, ds, i), q + (begin + i) * args.q_ld);
        dv.add(__shfl_sync(kAllLanes, p, i), dout + (begin + i) * args.dout_ld);
      }
    }
  }
  dk.store(const_cast<T*>(head_row<T>(args.dk, row, args.dk_ld, kv_head, d)));
  dv.store(const_cast<T*>(head_row<T>(args.dv, row, args.dv_ld, kv_head, d)));
}

// ---- decoding

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

LOWRANK_KERNEL(attention_f32, AttentionArgs, 128, 4) { attend<float>(args); }
LOWRANK_KERNEL(attention_bf16, AttentionArgs, 128, 4) { attend<__nv_bfloat16>(args); }
LOWRANK_KERNEL(attention_sums_f32, AttentionSumsArgs, 128, 4) { add_up<float>(args); }
LOWRANK_KERNEL(attention_sums_bf16, AttentionSumsArgs, 128, 4) { add_up<__nv_bfloat16>(args); }
LOWRANK_KERNEL(attention_gradient_queries_f32, AttentionBackwardArgs, 128, 4) { queries_gradient<float>(args); }
LOWRANK_KERNEL(attention_gradient_queries_bf16, AttentionBackwardArgs, 128, 4) {
  queries_gradient<__nv_bfloat16>(args);
}
LOWRANK_KERNEL(attention_gradient_keys_f32, AttentionBackwardArgs, 128, 4) { keys_gradient<float>(args); }
LOWRANK_KERNEL(attention_gradient_keys_bf16, AttentionBackwardArgs, 128, 4) { keys_gradient<__nv_bfloat16>(args); }
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
