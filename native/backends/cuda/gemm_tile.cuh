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
  // Space in which a warp rearranges 16 rows of its sums; eight floats of padding avoid bank conflicts.
  static constexpr int kTurnLd = kWarpN + 8;
  static_assert(kWarpsM * kWarpsN * 16 * kTurnLd * 4 <= kStages * kStageElements * 2);
};

template <class T>
using Sums = float[T::kFragmentsM][T::kFragmentsN][4];

/// Chunks of 8 elements change places within the rows of a panel, such that eight rows have one chunk in eight
/// different places: chunk c of a row lies at c ^ turn_of(row). Eight rows on the turn is the same.
template <int kChunks>
LOWRANK_DEVICE int turn_of(int row) {
  if constexpr (kChunks >= 8) return row & 7;
  if constexpr (kChunks == 4) return row >> 1 & 3;
  return row >> 2 & 1;
}
template <int kCols>
LOWRANK_DEVICE __nv_bfloat16* chunk_of(__nv_bfloat16* panel, int row, int chunk) {
  return panel + row * kCols + (chunk ^ turn_of<kCols / 8>(row)) * 8;
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

/// Elements [row, row + kRows) x [column, column + kCols) of a matrix [rows, cols], rounded to bf16; zeros beyond it.
/// Not unrolled: this serves small factors, and takes no registers from the sums.
template <int kRows, int kCols, int kThreads>
LOWRANK_DEVICE void convert_panel(__nv_bfloat16* panel, const GemmOperand& from, int64_t row, int64_t column,
                                  int64_t rows, int64_t cols) {
  constexpr int kChunks = kCols / 8;
#pragma unroll 1
  for (int index = static_cast<int>(threadIdx.x); index < kRows * kChunks; index += kThreads) {
    const int r = index / kChunks, c = index % kChunks;
    const int64_t left = row + r < rows ? cols - column - c * 8 : 0;
    const int count = static_cast<int>(left < 0 ? 0 : left > 8 ? 8 : left);
    const int64_t at = count == 0 ? 0 : (row + r) * from.ld + column + c * 8;
    store16(reinterpret_cast<uint32_t*>(chunk_of<kCols>(panel, r, c)), convert_chunk(from, at, count));
  }
}

/// A factor's panels [kRows, kCols], step by step of the reduction, which goes down the rows or along them. A thread
/// copies the same chunks of each, whole strides of rows apart, so little is left to compute for a step.
template <int kRows, int kCols, int kThreads, bool kDown>
struct Panels {
  static constexpr int kChunks = kCols / 8, kStride = kThreads / kChunks, kDepth = kDown ? kRows : kCols;
  static constexpr int kEach = (kRows + kStride - 1) / kStride;
  static_assert(kThreads % kChunks == 0 && kStride % 8 == 0 && (kRows % kStride == 0 || kRows < kStride));

  const __nv_bfloat16* from;  // the thread's first chunk at the next step
  uint32_t there;             // down: bytes of a chunk; along: bit i says that row i of the thread's is there
  static constexpr uint32_t kWhole = 1u << 31;  // and that no panel goes beyond the outputs

  LOWRANK_DEVICE int row() { return static_cast<int>(threadIdx.x) / kChunks; }
  LOWRANK_DEVICE int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  /// @param first of the `count` outputs, and `k` of the reduction, that the panel begins with
  __device__ __forceinline__ void begin(const GemmOperand& operand, int64_t first, int64_t count, int64_t k) {
    const int64_t r = (kDown ? k : first) + row(), c = (kDown ? first : k) + chunk() * 8;
    from = static_cast<const __nv_bfloat16*>(operand.data) + r * operand.ld + c;
    if constexpr (kDown) {
      const int64_t left = count - c;
      there = static_cast<uint32_t>(left < 0 ? 0 : left > 8 ? 8 : left) * 2;
    } else {
      there = 0;
#pragma unroll
      for (int i = 0; i < kEach; ++i) there |= r + i * kStride < count ? 1u << i : 0u;
    }
    if (first + (kDown ? kCols : kRows) <= count) there |= kWhole;
  }
  /// Copies the next panel, of whose reduction `left` columns are there, up to the panel's depth.
  __device__ __forceinline__ void copy(__nv_bfloat16* panel, int64_t ld, int left) {
    if (kRows < kStride && row() >= kRows) return;
    __nv_bfloat16* const to = chunk_of<kCols>(panel, row(), chunk());
    if (left == kDepth && (there & kWhole) != 0) {
#pragma unroll
      for (int i = 0; i < kEach; ++i) cp_async16(to + i * kStride * kCols, from + i * kStride * ld);
      from += kDown ? kDepth * ld : int64_t{kDepth};
      return;
    }
    int along = left - chunk() * 8;
    along = (along < 0 ? 0 : along > 8 ? 8 : along) * 2;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int bytes = kDown ? (row() + i * kStride < left ? static_cast<int>(there & ~kWhole) : 0)
                              : ((there >> i & 1) != 0 ? along : 0);
      // With 0 bytes nothing is read, whatever the address.
      cp_async16_zfill(to + i * kStride * kCols, from + i * kStride * ld, bytes);
    }
    from += kDown ? kDepth * ld : int64_t{kDepth};
  }
  /// @param left of the reduction's `depth`
  __device__ __forceinline__ void load(__nv_bfloat16* panel, const GemmOperand& operand, int64_t first, int64_t count,
                                       int64_t left, int64_t depth) {
    const int64_t k = depth - left;
    if (operand.is_f32 == 0 && operand.wide != 0) {
      copy(panel, operand.ld, static_cast<int>(left < kDepth ? left : kDepth));
    } else if constexpr (kDown) {
      convert_panel<kRows, kCols, kThreads>(panel, operand, k, first, depth, count);
    } else {
      convert_panel<kRows, kCols, kThreads>(panel, operand, first, k, count, depth);
    }
  }
};

/// The steps of the reduction that are still to be loaded: their segment and the place in it.
template <class T>
struct Steps {
  Panels<T::kXTransposed ? T::kK : T::kM, T::kXTransposed ? T::kM : T::kK, T::kThreads, T::kXTransposed> x;
  Panels<T::kWTransposed ? T::kK : T::kN, T::kWTransposed ? T::kN : T::kK, T::kThreads, T::kWTransposed> w;
  int64_t m0, n0, left;  // left: of the segment's reduction
  int segment;

  LOWRANK_DEVICE int of(const GemmSegment& segment) { return static_cast<int>((segment.k + T::kK - 1) / T::kK); }
  LOWRANK_DEVICE int of(const GemmArgs& args) {
    int steps = 0;
    for (int i = 0; i < args.segments; ++i) steps += of(args.segment[i]);
    return steps;
  }
  /// @param steps that others load
  __device__ __forceinline__ void begin(const GemmArgs& args, int steps) {
    segment = 0;
    while (segment < args.segments && steps >= of(args.segment[segment])) steps -= of(args.segment[segment++]);
    if (segment < args.segments) begin_segment(args, int64_t{steps} * T::kK);
  }
  __device__ __forceinline__ void begin_segment(const GemmArgs& args, int64_t k) {
    const GemmSegment& from = args.segment[segment];
    x.begin(from.x, m0, args.m, k);
    w.begin(from.w, n0, args.n, k);
    left = from.k - k;
  }
  __device__ __forceinline__ void load(const GemmArgs& args, __nv_bfloat16* stage) {
    const GemmSegment& from = args.segment[segment];
    x.load(stage, from.x, m0, args.m, left, from.k);
    w.load(stage + T::kXElements, from.w, n0, args.n, left, from.k);
    left -= T::kK;
    if (left > 0) return;
    ++segment;
    if (segment < args.segments) begin_segment(args, 0);
  }
};

/// Adds the products of a stage to the sums of a warp.
template <class T>
LOWRANK_DEVICE void multiply_step(const __nv_bfloat16* stage, Sums<T>& sums) {
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const int m0 = warp / T::kWarpsN * T::kWarpM, n0 = warp % T::kWarpsN * T::kWarpN;
  // The first rows that a lane names; the others are whole eights of rows further.
  const int x_row = T::kXTransposed ? (lane & 7) + (lane >> 4) * 8 : m0 + (lane & 15);
  const int w_row = T::kWTransposed ? lane & 15 : n0 + (lane & 7) + (lane >> 4) * 8;
  constexpr int kXCols = T::kXTransposed ? T::kM : T::kK, kWCols = T::kWTransposed ? T::kN : T::kK;
  const int x_turn = turn_of<kXCols / 8>(x_row), w_turn = turn_of<kWCols / 8>(w_row);
  const __nv_bfloat16* const x = stage + x_row * kXCols;
  const __nv_bfloat16* const w = stage + T::kXElements + w_row * kWCols;
#pragma unroll
  for (int k = 0; k < T::kK; k += 16) {
    uint32_t a[T::kFragmentsM][4];
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; ++i) {
      if constexpr (T::kXTransposed) {
        ldmatrix_x4_trans(a[i], x + k * kXCols + ((m0 / 8 + i * 2 + (lane >> 3 & 1)) ^ x_turn) * 8);
      } else {
        ldmatrix_x4(a[i], x + i * 16 * kXCols + ((k / 8 + (lane >> 4)) ^ x_turn) * 8);
      }
    }
#pragma unroll
    for (int j = 0; j < T::kFragmentsN; j += 2) {
      uint32_t b[4];
      if constexpr (T::kWTransposed) {
        ldmatrix_x4_trans(b, w + k * kWCols + ((n0 / 8 + j + (lane >> 4)) ^ w_turn) * 8);
      } else {
        ldmatrix_x4(b, w + j * 8 * kWCols + ((k / 8 + (lane >> 3 & 1)) ^ w_turn) * 8);
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
  const int part = static_cast<int>(args.part_steps), begin = static_cast<int>(blockIdx.z) * part;
  const int all = Steps<T>::of(args) - begin, steps = all < part ? all : part;
  Steps<T> loads;
  loads.m0 = m0;
  loads.n0 = n0;
  loads.begin(args, begin);
  Sums<T> sums = {};
  int loaded = 0, to = 0, from = 0;
#pragma unroll
  for (int i = 0; i < T::kStages - 1; ++i) {
    if (loaded < steps) {
      loads.load(args, stages + to * T::kStageElements);
      ++loaded;
    }
    ++to;
    cp_async_commit();
  }
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<T::kStages - 2>();
    __syncthreads();
    if (loaded < steps) {
      loads.load(args, stages + to * T::kStageElements);
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
