// A warp has 16 rows of a block's tile, which stays in shared memory, and goes through the rows of the other side.
// Tiles are rows of `Dim` columns whose chunks of 16 bytes are swapped within eight by the row, so that no bank is
// asked twice.
#include "device.cuh"
#include "flash.h"

namespace lowrank::cuda {
namespace {

constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

using bf16 = __nv_bfloat16;

/// Element of a tile where a chunk of a row begins.
template <int Dim>
LOWRANK_DEVICE int at_chunk(int row, int chunk) {
  return row * Dim + ((chunk ^ (row & 7)) << 3);
}

/// Copies rows to a tile, zeros where there are none and beyond a head's columns.
template <int Dim, int Rows, int Threads>
LOWRANK_DEVICE void copy_tile(bf16* tile, const bf16* from, int64_t ld, int rows, int head_dim) {
  constexpr int kChunks = Dim / 8, kStep = Threads / kChunks;
  const int first = static_cast<int>(threadIdx.x) / kChunks, chunk = static_cast<int>(threadIdx.x) % kChunks;
  if (chunk * 8 >= head_dim) rows = 0;
  const bf16* at = from + first * ld + chunk * 8;
#pragma unroll
  for (int row = first; row < first + Rows; row += kStep) {
    cp_async16_zfill(tile + at_chunk<Dim>(row, chunk), row < rows ? at : from, row < rows ? 16 : 0);
    at += kStep * ld;
  }
}

/// Rows [row, row + 16) and columns [16 k, 16 k + 16) of a tile as the left operand.
template <int Dim>
LOWRANK_DEVICE void left(uint32_t (&a)[4], const bf16* tile, int row, int k) {
  const int lane = lane_of(), matrix = lane >> 3;
  ldmatrix_x4(a, tile + at_chunk<Dim>(row + (matrix & 1) * 8 + (lane & 7), 2 * k + (matrix >> 1)));
}

/// sums [16, Rows] += rows [row, row + 16) of a tile times all rows of another, transposed.
template <int Dim, int Rows>
LOWRANK_DEVICE void add_products(float (&sums)[Rows / 8][4], const uint32_t (&a)[4], const bf16* other, int k) {
  const int lane = lane_of(), matrix = lane >> 3;
#pragma unroll
  for (int n = 0; n < Rows / 16; ++n) {
    uint32_t b[4];
    ldmatrix_x4(b, other + at_chunk<Dim>(16 * n + (matrix >> 1) * 8 + (lane & 7), 2 * k + (matrix & 1)));
    mma_bf16(sums[2 * n], a, {b[0], b[1]});
    mma_bf16(sums[2 * n + 1], a, {b[2], b[3]});
  }
}
template <int Dim, int Rows>
LOWRANK_DEVICE void products(float (&sums)[Rows / 8][4], const bf16* tile, int row, const bf16* other) {
#pragma unroll
  for (int n = 0; n < Rows / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] = 0;
#pragma unroll Dim == 64 ? 2 : 4  // more would take registers for addresses
  for (int k = 0; k < Dim / 16; ++k) {
    uint32_t a[4];
    left<Dim>(a, tile, row, k);
    add_products<Dim, Rows>(sums, a, other, k);
  }
}

/// sums [16, Cols] += weights [16, Rows], rounded, times columns from 8 `chunk` of a tile.
template <int Dim, int Rows, int Cols>
LOWRANK_DEVICE void add_weighted(float (&sums)[Cols / 8][4], const float (&weights)[Rows / 8][4], const bf16* tile,
                                 int chunk) {
  const int lane = lane_of(), matrix = lane >> 3;
#pragma unroll
  for (int k = 0; k < Rows / 16; ++k) {
    const float (&lower)[4] = weights[2 * k];
    const float (&upper)[4] = weights[2 * k + 1];
    const uint32_t a[4] = {pack_bf16(lower[0], lower[1]), pack_bf16(lower[2], lower[3]), pack_bf16(upper[0], upper[1]),
                           pack_bf16(upper[2], upper[3])};
#pragma unroll
    for (int n = 0; n < Cols / 16; ++n) {
      uint32_t b[4];
      ldmatrix_x4_trans(b, tile + at_chunk<Dim>(16 * k + (matrix & 1) * 8 + (lane & 7), chunk + 2 * n + (matrix >> 1)));
      mma_bf16(sums[2 * n], a, {b[0], b[1]});
      mma_bf16(sums[2 * n + 1], a, {b[2], b[3]});
    }
  }
}

/// Stores sums [16, Cols] as columns from 8 `chunk` of rows, through rows of a tile that only this warp still uses.
template <int Dim, int Cols>
LOWRANK_DEVICE void store_rows(const float (&sums)[Cols / 8][4], bf16* tile, int row, bf16* to, int64_t ld, int rows,
                               int chunk, int head_dim) {
  const int lane = lane_of(), g = lane >> 2, t = lane & 3;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < Cols / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      *reinterpret_cast<uint32_t*>(tile + at_chunk<Dim>(row + g + 8 * half, chunk + n) + 2 * t) =
          pack_bf16(sums[n][2 * half], sums[n][2 * half + 1]);
  __syncwarp();
  constexpr int kChunks = Cols / 8;
#pragma unroll
  for (int i = 0; i < 16 * kChunks / 32; ++i) {
    const int at = 32 * i + lane, r = row + at / kChunks, c = chunk + at % kChunks;
    if (r >= rows || c * 8 >= head_dim) continue;
    *reinterpret_cast<uint4*>(to + r * ld + c * 8) = *reinterpret_cast<const uint4*>(tile + at_chunk<Dim>(r, c));
  }
}

template <int Dim, int Warps, int Keys>
LOWRANK_DEVICE void forward(const AttentionArgs& args) {
  constexpr int kThreads = 32 * Warps, kQueries = 16 * Warps;
  constexpr bool kHoldsQueries = Dim == 128;  // in registers, where there is room
  LOWRANK_DYNAMIC_SHARED(bf16, qs);
  bf16* const ks = qs + kQueries * Dim;
  bf16* const vs = ks + 2 * Keys * Dim;
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int head = static_cast<int>(blockIdx.y), kv_head = head / (args.heads / args.kv_heads), d = args.head_dim;
  const int lane = lane_of(), row = 16 * warp_of(), queries = min(kQueries, tile.count - tile.first);
  const int64_t first = int64_t{tile.begin} + tile.first;
  const bf16* const q = static_cast<const bf16*>(args.q) + first * args.q_ld + int64_t{head} * d;
  const bf16* k = static_cast<const bf16*>(args.k) + tile.begin * args.k_ld + int64_t{kv_head} * d;
  const bf16* v = static_cast<const bf16*>(args.v) + tile.begin * args.v_ld + int64_t{kv_head} * d;

  // The first query sees keys [least, visible), and every query one more of both.
  const int visible = args.past + tile.first + 1, least = visible - args.window;
  const int keys = visible + queries - 1;
  int begin = max(least, 0) / Keys * Keys;
  k += begin * args.k_ld;
  v += begin * args.v_ld;
  const auto copy_next = [&](int stage, int count) {
    copy_tile<Dim, Keys, kThreads>(ks + stage * Keys * Dim, k, args.k_ld, count, d);
    copy_tile<Dim, Keys, kThreads>(vs + stage * Keys * Dim, v, args.v_ld, count, d);
    cp_async_commit();
    k += Keys * args.k_ld;
    v += Keys * args.v_ld;
  };
  copy_tile<Dim, kQueries, kThreads>(qs, q, args.q_ld, queries, d);
  copy_next(0, keys - begin);

  float out[Dim / 8][4], top[2] = {-kInfinity, -kInfinity}, total[2] = {0, 0};
#pragma unroll
  for (int n = 0; n < Dim / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) out[n][i] = 0;
  uint32_t held[kHoldsQueries ? Dim / 16 : 1][4];
  const float scale = args.scale * kLog2e;
  if constexpr (kHoldsQueries) {
    cp_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < Dim / 16; ++i) left<Dim>(held[i], qs, row, i);
  }
  for (int stage = 0; begin < keys; begin += Keys, stage ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // this stage is there, and all are done with the other
    if (begin + Keys < keys) copy_next(stage ^ 1, keys - begin - Keys);
    float s[Keys / 8][4];
    if constexpr (kHoldsQueries) {
#pragma unroll
      for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = 0;
#pragma unroll
      for (int i = 0; i < Dim / 16; ++i) add_products<Dim, Keys>(s, held[i], ks + stage * Keys * Dim, i);
    } else {
      products<Dim, Keys>(s, qs, row, ks + stage * Keys * Dim);
    }

    const int own = row + (lane >> 2);  // and own + 8
    if (begin + Keys > visible || begin < least + kQueries - 1) {
#pragma unroll
      for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = begin + 8 * n + 2 * (lane & 3) + (i & 1), later = own + 8 * (i >> 1);
          if (key >= visible + later || key < least + later) s[n][i] = -kInfinity;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = -kInfinity;
#pragma unroll
      for (int n = 0; n < Keys / 8; ++n) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, 2));
      most = fmaxf(top[half], most * scale);
      const float shift = most > -kInfinity ? most : 0, factor = exp2f(top[half] - shift);
      top[half] = most;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) sum += s[n][i] = exp2f(fmaf(s[n][i], scale, -shift));
      total[half] = fmaf(total[half], factor, sum);
#pragma unroll
      for (int n = 0; n < Dim / 8; ++n) {
        out[n][2 * half] *= factor;
        out[n][2 * half + 1] *= factor;
      }
    }
    add_weighted<Dim, Keys, Dim>(out, s, vs + stage * Keys * Dim, 0);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] += __shfl_xor_sync(kAllLanes, total[half], 1);
    total[half] += __shfl_xor_sync(kAllLanes, total[half], 2);
    const float factor = 1 / total[half];
#pragma unroll
    for (int n = 0; n < Dim / 8; ++n) {
      out[n][2 * half] *= factor;
      out[n][2 * half + 1] *= factor;
    }
    const int own = row + (lane >> 2) + 8 * half;
    if (args.lse && (lane & 3) == 0 && own < queries)
      args.lse[(first + own) * args.heads + head] = fmaf(top[half], kLn2, logf(total[half]));
  }
  bf16* const to = static_cast<bf16*>(args.out) + first * args.out_ld + int64_t{head} * d;
  store_rows<Dim, Dim>(out, qs, row, to, args.out_ld, queries, 0, d);
}

/// A side of attention: two matrices with rows of one head.
struct Side {
  const bf16 *first, *second;
  int64_t first_ld, second_ld;
};
LOWRANK_DEVICE Side queries_side(const AttentionBackwardArgs& args, int begin, int head) {
  const int64_t column = int64_t{head} * args.head_dim;
  return {static_cast<const bf16*>(args.q) + begin * args.q_ld + column,
          static_cast<const bf16*>(args.dout) + begin * args.dout_ld + column, args.q_ld, args.dout_ld};
}
LOWRANK_DEVICE Side keys_side(const AttentionBackwardArgs& args, int begin, int head) {
  const int64_t column = int64_t{head} * args.head_dim;
  return {static_cast<const bf16*>(args.k) + begin * args.k_ld + column,
          static_cast<const bf16*>(args.v) + begin * args.v_ld + column, args.k_ld, args.v_ld};
}

/// A tile of keys with its values goes through all queries of its group that see some, and a tile of queries with the
/// gradients of its outputs through the keys that it sees. The scores are the products of both sides' first matrices,
/// the gradients of the weights those of the second.
template <bool OfKeys, int Dim, int Inner, int Stages, int Cols>
LOWRANK_DEVICE void backward(const AttentionBackwardArgs& args) {
  constexpr int kThreads = 128, kRows = 64, kTile = Inner * Dim;
  LOWRANK_DYNAMIC_SHARED(bf16, own_first);
  bf16* const own_second = own_first + kRows * Dim;
  bf16* const firsts = own_second + kRows * Dim;
  bf16* const seconds = firsts + Stages * kTile;
  float* const lses = reinterpret_cast<float*>(seconds + Stages * kTile);  // of queries that come by
  float* const sums = lses + Stages * Inner;
  const AttentionTile tile = args.tiles[OfKeys ? gridDim.x - 1 - blockIdx.x : blockIdx.x];  // the longest first
  const int d = args.head_dim, group = args.heads / args.kv_heads, lane = lane_of(), row = 16 * warp_of();
  const int rows = min(kRows, tile.count - tile.first), chunk = static_cast<int>(blockIdx.z) * (Cols / 8);
  const int head = static_cast<int>(blockIdx.y);
  const int64_t first = int64_t{tile.begin} + tile.first;
  const float scale = args.scale * kLog2e;

  {
    const Side own = OfKeys ? keys_side(args, tile.begin, head) : queries_side(args, tile.begin, head);
    copy_tile<Dim, kRows, kThreads>(own_first, own.first + tile.first * own.first_ld, own.first_ld, rows, d);
    copy_tile<Dim, kRows, kThreads>(own_second, own.second + tile.first * own.second_ld, own.second_ld, rows, d);
  }
  // Rows of the other side in steps of Inner, for keys head by head.
  int from = tile.first, end = tile.first + rows;
  if (OfKeys)
    end = args.window <= tile.count - end ? end - 1 + args.window : tile.count;
  else
    from = max(tile.first + 1 - args.window, 0);
  from = from / Inner * Inner;
  int other_head = OfKeys ? head * group : head / group, other_heads = OfKeys ? group : 1, next = from;
  Side other = OfKeys ? queries_side(args, tile.begin, other_head) : keys_side(args, tile.begin, other_head);
  const auto copy_next = [&](int stage) {
    const int count = end - next;
    copy_tile<Dim, Inner, kThreads>(firsts + stage * kTile, other.first + next * other.first_ld, other.first_ld, count,
                                    d);
    copy_tile<Dim, Inner, kThreads>(seconds + stage * kTile, other.second + next * other.second_ld, other.second_ld,
                                    count, d);
    if (OfKeys && threadIdx.x < Inner) {
      const int i = static_cast<int>(threadIdx.x);
      const int64_t query = (int64_t{tile.begin} + next + i) * args.heads + other_head;
      lses[stage * Inner + i] = i < count ? args.lse[query] * kLog2e : kInfinity;
      sums[stage * Inner + i] = i < count ? args.sums[query] : 0;
    }
    cp_async_commit();
    next += Inner;
    if (next < end) return;
    next = from;
    --other_heads;
    ++other_head;
    other.first += d;
    other.second += d;
  };

  float own_lse[2] = {kInfinity, kInfinity}, own_sum[2] = {0, 0};
  if (!OfKeys) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = row + (lane >> 2) + 8 * half;
      if (i >= rows) continue;
      own_lse[half] = args.lse[(first + i) * args.heads + head] * kLog2e;
      own_sum[half] = args.sums[(first + i) * args.heads + head];
    }
  }
  float d_first[Cols / 8][4], d_second[OfKeys ? Cols / 8 : 1][4];
#pragma unroll
  for (int n = 0; n < Cols / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      d_first[n][i] = 0;
      if constexpr (OfKeys) d_second[n][i] = 0;
    }

  int at = from;
  copy_next(0);
  for (int stage = 0, left_over = 1; left_over > 0; stage ^= Stages - 1) {
    left_over = other_heads;
    cp_async_wait<0>();
    __syncthreads();  // this stage is there, and all are done with the other
    if (Stages > 1 && left_over > 0) copy_next(stage ^ 1);
    float weights[Inner / 8][4], slopes[Inner / 8][4];
    products<Dim, Inner>(weights, own_first, row, firsts + stage * kTile);
    products<Dim, Inner>(slopes, own_second, row, seconds + stage * kTile);
#pragma unroll
    for (int n = 0; n < Inner / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = 8 * n + 2 * (lane & 3) + (i & 1);
        const int mine = tile.first + row + (lane >> 2) + 8 * (i >> 1), other = at + column;
        const int query = OfKeys ? other : mine, key = OfKeys ? mine : other;
        const float lse = OfKeys ? lses[stage * Inner + column] : own_lse[i >> 1];
        const float sum = OfKeys ? sums[stage * Inner + column] : own_sum[i >> 1];
        const bool sees = key <= query && query - key < args.window;
        const float p = sees ? exp2f(fmaf(weights[n][i], scale, -lse)) : 0;
        weights[n][i] = p;
        slopes[n][i] = p * (slopes[n][i] - sum) * args.scale;
      }
    add_weighted<Dim, Inner, Cols>(d_first, slopes, firsts + stage * kTile, chunk);
    if constexpr (OfKeys) add_weighted<Dim, Inner, Cols>(d_second, weights, seconds + stage * kTile, chunk);
    at = at + Inner < end ? at + Inner : from;
    if (Stages == 1 && left_over > 0) {
      __syncthreads();
      copy_next(0);
    }
  }

  if constexpr (OfKeys) {
    bf16* const dk = static_cast<bf16*>(args.dk) + first * args.dk_ld + int64_t{head} * d;
    bf16* const dv = static_cast<bf16*>(args.dv) + first * args.dv_ld + int64_t{head} * d;
    store_rows<Dim, Cols>(d_first, own_first, row, dk, args.dk_ld, rows, chunk, d);
    store_rows<Dim, Cols>(d_second, own_second, row, dv, args.dv_ld, rows, chunk, d);
  } else {
    bf16* const dq = static_cast<bf16*>(args.dq) + first * args.dq_ld + int64_t{head} * d;
    store_rows<Dim, Cols>(d_first, own_first, row, dq, args.dq_ld, rows, chunk, d);
  }
}

}  // namespace

LOWRANK_KERNEL(flash_64, AttentionArgs, 256, 2) { forward<64, 8, 64>(args); }
LOWRANK_KERNEL(flash_128, AttentionArgs, 256, 1) { forward<128, 8, 64>(args); }
LOWRANK_KERNEL(flash_256, AttentionArgs, 128, 1) { forward<256, 4, 32>(args); }
LOWRANK_KERNEL(flash_gradient_queries_64, AttentionBackwardArgs, 128, 3) { backward<false, 64, 64, 2, 64>(args); }
LOWRANK_KERNEL(flash_gradient_queries_128, AttentionBackwardArgs, 128, 2) { backward<false, 128, 32, 2, 128>(args); }
LOWRANK_KERNEL(flash_gradient_queries_256, AttentionBackwardArgs, 128, 1) { backward<false, 256, 32, 1, 256>(args); }
LOWRANK_KERNEL(flash_gradient_keys_64, AttentionBackwardArgs, 128, 2) { backward<true, 64, 64, 2, 64>(args); }
LOWRANK_KERNEL(flash_gradient_keys_128, AttentionBackwardArgs, 128, 2) { backward<true, 128, 32, 2, 128>(args); }
LOWRANK_KERNEL(flash_gradient_keys_256, AttentionBackwardArgs, 128, 1) { backward<true, 256, 32, 1, 128>(args); }

}  // namespace lowrank::cuda
