// A tile of a matrix product on tensor cores: panels of both factors come through shared memory in stages, a warp
// multiplies its part of them, and sums are stored in whole sectors.
#pragma once

#include "device.cuh"
#include "gemm.h"

namespace lowrank::cuda {
namespace {

/// How a tile of y [kM, kN] is cut: kK columns of the reduction at a time, among kWarpsM x kWarpsN warps.
template <bool kTransA, bool kTransB, int kM_, int kN_, int kK_, int kWarpsM_, int kWarpsN_, int kStages_>
struct Tile {
  static constexpr bool kXTransposed = kTransA;  // x is [k, m], else [m, k]
  static constexpr bool kWTransposed = kTransB;  // w is [k, n], else [n, k]
  static constexpr int kM = kM_, kN = kN_, kK = kK_, kStages = kStages_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;
  static constexpr int kXElements = kM * kK, kWElements = kN * kK, kStageElements = kXElements + kWElements;
  static constexpr int kFragmentsM = kWarpM / 16, kFragmentsN = kWarpN / 8;
  static_assert(kWarpM % 16 == 0 && kWarpN % 16 == 0 && kK % 16 == 0);
  // Where a warp turns 16 rows of its sums; eight floats between rows keep banks apart.
  static constexpr int kTurnLd = kWarpN + 8;
  static_assert(kWarpsM * kWarpsN * 16 * kTurnLd * 4 <= kStages * kStageElements * 2);
};

template <class T>
using Sums = float[T::kFragmentsM][T::kFragmentsN][4];

/// Place of a chunk of 8 elements in a row of a panel, such that eight rows have one chunk in eight different places.
template <int kChunks>
LOWRANK_DEVICE int swizzled(int row, int chunk) {
  if constexpr (kChunks >= 8) return chunk ^ (row & 7);
  if constexpr (kChunks == 4) return chunk ^ (row >> 1 & 3);
  return chunk ^ (row >> 2 & 1);
}
template <int kCols>
LOWRANK_DEVICE __nv_bfloat16* chunk_of(__nv_bfloat16* panel, int row, int chunk) {
  return panel + row * kCols + swizzled<kCols / 8>(row, chunk) * 8;
}

/// A chunk of an operand that cannot be copied as it lies: the first `count` elements, then zeros.
LOWRANK_DEVICE Pack<uint32_t> convert_chunk(const GemmOperand& from, int64_t at, int count) {
  float v[8];
  const auto* const f32 = static_cast<const float*>(from.data) + at;
  const auto* const bf16 = static_cast<const __nv_bfloat16*>(from.data) + at;
  if (from.is_f32 != 0 && from.wide != 0 && count == 8) {
    const Pack<float> a = load16(f32), b = load16(f32 + 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = a.at[i];
      v[i + 4] = b.at[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = i >= count ? 0 : from.is_f32 != 0 ? f32[i] : to_float(bf16[i]);
  }
  Pack<uint32_t> packed;
#pragma unroll
  for (int i = 0; i < 4; ++i) packed.at[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
  return packed;
}

/// Brings elements [row, row + kRows) x [column, column + kCols) of a matrix [rows, cols] to a panel; zeros beyond it.
template <int kRows, int kCols, int kThreads>
LOWRANK_DEVICE void load_panel(__nv_bfloat16* panel, const GemmOperand& from, int64_t row, int64_t column, int64_t rows,
                               int64_t cols) {
  constexpr int kChunks = kCols / 8, kAll = kRows * kChunks;
  const auto rows_left = static_cast<int>(rows - row < kRows ? rows - row : kRows);
  const auto cols_left = static_cast<int>(cols - column < kCols ? cols - column : kCols);
  const int64_t corner = row * from.ld + column;
  const auto each_chunk = [&](int i, auto&& load) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kAll % kThreads != 0 && index >= kAll) return;
    const int r = index / kChunks, c = index % kChunks;
    int count = r < rows_left ? cols_left - c * 8 : 0;
    count = count < 0 ? 0 : count > 8 ? 8 : count;
    load(chunk_of<kCols>(panel, r, c), count == 0 ? 0 : corner + r * from.ld + c * 8, count);
  };
  constexpr int kEach = (kAll + kThreads - 1) / kThreads;
  if (from.is_f32 == 0 && from.wide != 0) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      each_chunk(i, [&](__nv_bfloat16* to, int64_t at, int count) {
        cp_async16_zfill(to, static_cast<const __nv_bfloat16*>(from.data) + at, count * 2);
      });
  } else {
    // Not unrolled: this serves small factors, and takes no registers from the sums.
#pragma unroll 1
    for (int i = 0; i < kEach; ++i)
      each_chunk(i, [&](__nv_bfloat16* to, int64_t at, int count) {
        store16(reinterpret_cast<uint32_t*>(to), convert_chunk(from, at, count));
      });
  }
}

/// Step of the reduction that is loaded next.
template <class T>
struct Steps {
  int segment = 0;
  int64_t k = 0;

  LOWRANK_DEVICE int64_t of(const GemmSegment& segment) { return (segment.k + T::kK - 1) / T::kK; }
  LOWRANK_DEVICE int64_t of(const GemmArgs& args) {
    int64_t steps = 0;
    for (int i = 0; i < args.segments; ++i) steps += of(args.segment[i]);
    return steps;
  }
  __device__ __forceinline__ void skip(const GemmArgs& args, int64_t steps) {
    while (segment < args.segments && steps >= of(args.segment[segment])) steps -= of(args.segment[segment++]);
    k = steps * T::kK;
  }
  __device__ __forceinline__ void next(const GemmArgs& args) {
    k += T::kK;
    if (k < args.segment[segment].k) return;
    ++segment;
    k = 0;
  }
};

template <class T>
LOWRANK_DEVICE void load_step(const GemmArgs& args, const GemmSegment& segment, int64_t k, int64_t m0, int64_t n0,
                              __nv_bfloat16* stage) {
  if constexpr (T::kXTransposed) {
    load_panel<T::kK, T::kM, T::kThreads>(stage, segment.x, k, m0, segment.k, args.m);
  } else {
    load_panel<T::kM, T::kK, T::kThreads>(stage, segment.x, m0, k, args.m, segment.k);
  }
  __nv_bfloat16* const w = stage + T::kXElements;
  if constexpr (T::kWTransposed) {
    load_panel<T::kK, T::kN, T::kThreads>(w, segment.w, k, n0, segment.k, args.n);
  } else {
    load_panel<T::kN, T::kK, T::kThreads>(w, segment.w, n0, k, args.n, segment.k);
  }
}

/// Adds the products of a stage to the sums of a warp.
template <class T>
LOWRANK_DEVICE void multiply_step(__nv_bfloat16* stage, Sums<T>& sums) {
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const int m0 = warp / T::kWarpsN * T::kWarpM, n0 = warp % T::kWarpsN * T::kWarpN;
  __nv_bfloat16* const x = stage;
  __nv_bfloat16* const w = stage + T::kXElements;
#pragma unroll
  for (int k = 0; k < T::kK; k += 16) {
    uint32_t a[T::kFragmentsM][4];
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; ++i) {
      if constexpr (T::kXTransposed) {
        ldmatrix_x4_trans(
            a[i], chunk_of<T::kM>(x, k + (lane & 7) + (lane >> 4) * 8, (m0 + i * 16) / 8 + (lane >> 3 & 1)));
      } else {
        ldmatrix_x4(a[i], chunk_of<T::kK>(x, m0 + i * 16 + (lane & 15), k / 8 + (lane >> 4)));
      }
    }
#pragma unroll
    for (int j = 0; j < T::kFragmentsN; j += 2) {
      uint32_t b[4];
      if constexpr (T::kWTransposed) {
        ldmatrix_x4_trans(b, chunk_of<T::kN>(w, k + (lane & 15), (n0 + j * 8) / 8 + (lane >> 4)));
      } else {
        ldmatrix_x4(b, chunk_of<T::kK>(w, n0 + j * 8 + (lane & 7) + (lane >> 4) * 8, k / 8 + (lane >> 3 & 1)));
      }
      const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
      for (int i = 0; i < T::kFragmentsM; ++i) {
        mma_bf16(sums[i][j], a[i], b0);
        mma_bf16(sums[i][j + 1], a[i], b1);
      }
    }
  }
}

/// Stores four neighbors of y, or those of them that are there.
LOWRANK_DEVICE void store_four(const GemmArgs& args, int64_t row, int64_t column, Pack<float> v) {
  if (row >= args.m || column >= args.n) return;
  const int64_t at = row * args.y_ld + column + blockIdx.z * args.part_stride;
  const int64_t residual = row * args.residual_ld + column;
  if (args.wide != 0 && column + 4 <= args.n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) v.at[i] *= args.scale;
    if (args.bias != nullptr) {
      const Pack<float> bias = load16(args.bias + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) v.at[i] += bias.at[i];
    }
    if (args.residual != nullptr) {
      const Pack<float> add = load16(args.residual + residual);
#pragma unroll
      for (int i = 0; i < 4; ++i) v.at[i] += add.at[i];
    }
    if (args.y_is_bf16 != 0) {
      // One number of 64 bits: of a struct of two the compilers make two stores.
      const uint64_t packed = uint64_t{pack_bf16(v.at[2], v.at[3])} << 32 | pack_bf16(v.at[0], v.at[1]);
      *reinterpret_cast<uint64_t*>(static_cast<__nv_bfloat16*>(args.y) + at) = packed;
    } else {
      store16(static_cast<float*>(args.y) + at, v);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + i >= args.n) return;
    float sum = v.at[i] * args.scale;
    if (args.bias != nullptr) sum += args.bias[column + i];
    if (args.residual != nullptr) sum += args.residual[residual + i];
    if (args.y_is_bf16 != 0) {
      static_cast<__nv_bfloat16*>(args.y)[at + i] = __float2bfloat16_rn(sum);
    } else {
      static_cast<float*>(args.y)[at + i] = sum;
    }
  }
}

/// Stores the sums of all warps through shared memory, which nothing else uses any more.
template <class T>
LOWRANK_DEVICE void store_sums(const GemmArgs& args, int64_t m0, int64_t n0, const Sums<T>& sums,
                               __nv_bfloat16* shared) {
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  float* const turn = reinterpret_cast<float*>(shared) + warp * 16 * T::kTurnLd;
  m0 += warp / T::kWarpsN * T::kWarpM;
  n0 += warp % T::kWarpsN * T::kWarpN;
#pragma unroll
  for (int i = 0; i < T::kFragmentsM; ++i) {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < T::kFragmentsN; ++j) {
      float* const at = turn + lane / 4 * T::kTurnLd + j * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(at) = {sums[i][j][0], sums[i][j][1]};
      *reinterpret_cast<float2*>(at + 8 * T::kTurnLd) = {sums[i][j][2], sums[i][j][3]};
    }
    __syncwarp();
    constexpr int kFours = T::kWarpN / 4;
#pragma unroll
    for (int index = lane; index < 16 * kFours; index += 32) {
      const int row = index / kFours, column = index % kFours * 4;
      store_four(args, m0 + i * 16 + row, n0 + column, load16(turn + row * T::kTurnLd + column));
    }
  }
}

/// A block's tile of y: rows by blockIdx.x, columns by blockIdx.y, a part of the reduction by blockIdx.z.
template <class T>
LOWRANK_DEVICE void multiply(const GemmArgs& args) {
  LOWRANK_DYNAMIC_SHARED(__nv_bfloat16, stages);
  const int64_t m0 = int64_t{blockIdx.x} * T::kM, n0 = int64_t{blockIdx.y} * T::kN;
  const int64_t begin = blockIdx.z * args.part_steps, all = Steps<T>::of(args) - begin;
  const int64_t steps = all < args.part_steps ? all : args.part_steps;
  Steps<T> loads;
  loads.skip(args, begin);
  Sums<T> sums = {};
  int64_t loaded = 0;
  int to = 0, from = 0;
#pragma unroll
  for (int i = 0; i < T::kStages - 1; ++i) {
    if (loaded < steps) {
      load_step<T>(args, args.segment[loads.segment], loads.k, m0, n0, stages + to * T::kStageElements);
      loads.next(args);
      ++loaded;
    }
    ++to;
    cp_async_commit();
  }
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    cp_async_wait<T::kStages - 2>();
    __syncthreads();
    if (loaded < steps) {
      load_step<T>(args, args.segment[loads.segment], loads.k, m0, n0, stages + to * T::kStageElements);
      loads.next(args);
      ++loaded;
    }
    cp_async_commit();
    multiply_step<T>(stages + from * T::kStageElements, sums);
    to = to + 1 == T::kStages ? 0 : to + 1;
    from = from + 1 == T::kStages ? 0 : from + 1;
  }
  cp_async_wait<0>();
  __syncthreads();
  store_sums<T>(args, m0, n0, sums, stages);
}

}  // namespace
}  // namespace lowrank::cuda
