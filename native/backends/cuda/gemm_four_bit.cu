// Products of few rows with 4-bit codes, which are decoded in registers: a block takes 128 rows of codes, a block of 64
// codes at a time. A byte i of such a block holds elements i and i + 32, so lane q of four reads bytes 8q to 8q + 7 and
// takes elements 8q + 2s, 8q + 2s + 1, 8q + 32 + 2s and 8q + 33 + 2s for the s-th multiplication of 16 columns; x is
// read in the same order.
#include "decode.cuh"
#include "device.cuh"
#include "gemm.h"
#include "gemm_tile.cuh"

namespace lowrank::cuda {
namespace {

constexpr int kCodeRowBytes = 32;

/// Tile of the further segments, and of the sums.
template <int kM>
using FewRows = Tile<false, false, kM, 128, 64, 1, kM >= 32 ? 8 : 4, 3>;

template <int kM>
struct CodeStages {
  using T = FewRows<kM>;
  static constexpr int kStages = kM == 64 ? 3 : 4, kXBytes = kM * T::kK * 2, kBytes = kXBytes + T::kN * kCodeRowBytes;
};

/// Place of a chunk of x; two neighboring rows have the four chunks of a half in different places.
LOWRANK_DEVICE int turned(int row, int chunk) { return chunk ^ (row & 1) << 2; }

/// Copies of x and of the codes by a thread, block by block.
template <int kM>
struct CodeLoads {
  using T = FewRows<kM>;
  static constexpr int kChunks = T::kK / 8, kStride = T::kThreads / kChunks;
  const __nv_bfloat16* x;
  const uint8_t* codes;

  LOWRANK_DEVICE int row() { return static_cast<int>(threadIdx.x) / kChunks; }
  LOWRANK_DEVICE int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  __device__ __forceinline__ void begin(const GemmCodesArgs& args, int block, int64_t n0) {
    x = static_cast<const __nv_bfloat16*>(args.x.data) + row() * args.x.ld + int64_t{block} * 64 + chunk() * 8;
    const int64_t of_row = args.w.first + n0 + threadIdx.x / 2;
    codes = static_cast<const uint8_t*>(args.w.data) + (of_row * (args.w.cols / 64) + block) * kCodeRowBytes +
            threadIdx.x % 2 * 16;
  }
  /// Copies the next block, the one of that number.
  __device__ __forceinline__ void load(const GemmCodesArgs& args, int block, int rows, unsigned char* stage) {
    unsigned char* const to = stage + row() * (T::kK * 2) + turned(row(), chunk()) * 16;
    if (args.x.is_f32 == 0 && args.x.wide != 0) {
#pragma unroll
      for (int i = 0; i < kM / kStride; ++i)
        cp_async16_zfill(to + i * kStride * (T::kK * 2), x + i * kStride * args.x.ld,
                         row() + i * kStride < static_cast<int>(args.rest.m) ? 16 : 0);
    } else {
#pragma unroll 1
      for (int i = 0; i < kM / kStride; ++i) {
        const int count = row() + i * kStride < static_cast<int>(args.rest.m) ? 8 : 0;
        const int64_t at = (row() + i * kStride) * args.x.ld + int64_t{block} * 64 + chunk() * 8;
        store16(reinterpret_cast<uint32_t*>(to + i * kStride * (T::kK * 2)),
                convert_chunk(args.x, count == 0 ? 0 : at, count));
      }
    }
    unsigned char* const code = stage + CodeStages<kM>::kXBytes + threadIdx.x * 16;
#pragma unroll
    for (int i = 0; i < T::kN * 2 / T::kThreads; ++i) {
      constexpr int kRows = T::kThreads / 2;
      cp_async16_zfill(code + i * kRows * kCodeRowBytes, codes + i * kRows * (args.w.cols / 64) * kCodeRowBytes,
                       static_cast<int>(threadIdx.x) / 2 + i * kRows < rows ? 16 : 0);
    }
    x += 64;
    codes += kCodeRowBytes;
  }
};

template <DeviceFormat kFormat, int kM>
LOWRANK_DEVICE void multiply_codes(const GemmCodesArgs& args) {
  using T = FewRows<kM>;
  using S = CodeStages<kM>;
  LOWRANK_DYNAMIC_SHARED(unsigned char, stages);
  const Codebooks books = codebooks_of<kFormat>(args.w);
  const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
  const int g = lane / 4, q = lane % 4;
  const int64_t n0 = int64_t{blockIdx.y} * T::kN;
  const int blocks = static_cast<int>(args.w.cols / 64), part = static_cast<int>(args.rest.part_steps);
  const int begin = static_cast<int>(blockIdx.z) * part, end = begin + part < blocks ? begin + part : blocks;
  const int rows = static_cast<int>(args.rest.n - n0 < T::kN ? args.rest.n - n0 : T::kN);
  Sums<T> sums = {};

  // Scales of the rows of codes that a lane decodes.
  // 32 bits number the blocks of any matrix that fits a card, and spare registers.
  const auto scale_at = [&](int j, int block) {
    const int row = warp * T::kWarpN + j * 8 + g;
    const auto of_row = static_cast<uint32_t>(args.w.first + n0) + static_cast<uint32_t>(row < rows ? row : rows - 1);
    return scale_of_block(args.w, books, of_row * static_cast<uint32_t>(blocks) + static_cast<uint32_t>(block));
  };
  float scale[T::kFragmentsN];
#pragma unroll
  for (int j = 0; j < T::kFragmentsN; ++j) scale[j] = scale_at(j, begin);
  CodeLoads<kM> loads;
  loads.begin(args, begin, n0);
#pragma unroll 1
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (begin + i < end) loads.load(args, begin + i, rows, stages + i * S::kBytes);
    cp_async_commit();
  }
  int to = S::kStages - 1, from = 0;
#pragma unroll 1
  for (int block = begin; block < end; ++block) {
    cp_async_wait<S::kStages - 2>();
    __syncthreads();
    const int ahead = block + S::kStages - 1;
    if (ahead < end) loads.load(args, ahead, rows, stages + to * S::kBytes);
    cp_async_commit();
    const unsigned char* const stage = stages + from * S::kBytes;
    to = to + 1 == S::kStages ? 0 : to + 1;
    from = from + 1 == S::kStages ? 0 : from + 1;
    // Two of the four columns of fragments at a time, which registers have room for.
#pragma unroll
    for (int j0 = 0; j0 < T::kFragmentsN; j0 += 2) {
      uint32_t b[2][4][2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int row = warp * T::kWarpN + (j0 + j) * 8 + g;
        const uint2 codes = *reinterpret_cast<const uint2*>(stage + S::kXBytes + row * kCodeRowBytes + q * 8);
        const float by = scale[j0 + j];
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const uint32_t pair = (s < 2 ? codes.x : codes.y) >> (s % 2 * 16);
          b[j][s][0] = pack_bf16(books.codes[pair & 15] * by, books.codes[pair >> 8 & 15] * by);
          b[j][s][1] = pack_bf16(books.codes[pair >> 4 & 15] * by, books.codes[pair >> 12 & 15] * by);
        }
        if (block + 1 < end) scale[j0 + j] = scale_at(j0 + j, block + 1);
      }
#pragma unroll
      for (int i = 0; i < T::kFragmentsM; ++i) {
        Pack<uint32_t> x[4];  // rows g and g + 8 of both halves of the block
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          const int row = i * 16 + g + part % 2 * 8, chunk = q + part / 2 * 4;
          x[part] = load16(reinterpret_cast<const uint32_t*>(stage + row * (T::kK * 2) + turned(row, chunk) * 16));
        }
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const uint32_t a[4] = {x[0].at[s], x[1].at[s], x[2].at[s], x[3].at[s]};
#pragma unroll
          for (int j = 0; j < 2; ++j) mma_bf16(sums[i][j0 + j], a, b[j][s]);
        }
      }
    }
  }
  cp_async_wait<0>();
  __syncthreads();

  // The further segments, which are short, one step at a time.
  auto* const stage = reinterpret_cast<__nv_bfloat16*>(stages);
  if (blockIdx.z + 1 == gridDim.z) {
    Steps<T> steps;
    steps.m0 = 0;
    steps.n0 = n0;
    steps.begin(args.rest, 0);
    while (steps.segment < args.rest.segments) {
      steps.load(args.rest, stage);
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
      multiply_step<T>(stage, sums);
      __syncthreads();
    }
  }
  store_sums<T>(args.rest, 0, n0, sums, stage);
}

}  // namespace

#define LOWRANK_GEMM_FOUR_BIT(format, rows, blocks)                                        \
  LOWRANK_KERNEL(gemm_##format##_##rows, GemmCodesArgs, FewRows<rows>::kThreads, blocks) { \
    multiply_codes<DeviceFormat::format, rows>(args);                                      \
  }
LOWRANK_GEMM_FOUR_BIT(nf4, 16, 4)
LOWRANK_GEMM_FOUR_BIT(nf4, 32, 2)
LOWRANK_GEMM_FOUR_BIT(nf4, 64, 2)
LOWRANK_GEMM_FOUR_BIT(fp4, 16, 4)
LOWRANK_GEMM_FOUR_BIT(fp4, 32, 2)
LOWRANK_GEMM_FOUR_BIT(fp4, 64, 2)

}  // namespace lowrank::cuda
