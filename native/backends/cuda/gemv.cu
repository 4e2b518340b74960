// Products of one to four rows: a warp takes two rows of the weight, its lanes every 256th run of eight elements, and
// adds up over its lanes in a fixed order. Further segments are dense fp32.
#include "decode.cuh"
#include "device.cuh"
#include "gemm.h"

namespace lowrank::cuda {
namespace {

constexpr int kRowsOfX = 4, kRowsOfW = 2, kThreads = 256;

/// Elements from `column` on of a row of x, of which `count` are there.
LOWRANK_DEVICE void x_eight(const GemmOperand& x, int64_t row, int64_t column, int64_t count, bool rounds,
                            float (&out)[8]) {
  const int64_t at = row * x.ld + column;
  const auto* const f32 = static_cast<const float*>(x.data) + at;
  const auto* const bf16 = static_cast<const __nv_bfloat16*>(x.data) + at;
  if (x.wide != 0 && count >= 8) {
    if (x.is_f32 != 0) {
      const Pack<float> a = load16(f32), b = load16(f32 + 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        out[i] = a.at[i];
        out[i + 4] = b.at[i];
      }
    } else {
      const Pack<__nv_bfloat16> a = load16(bf16);
#pragma unroll
      for (int i = 0; i < 8; ++i) out[i] = to_float(a.at[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = i >= count ? 0 : x.is_f32 != 0 ? f32[i] : to_float(bf16[i]);
  }
  if (rounds) {
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = round_bf16(out[i]);
  }
}

template <DeviceFormat kFormat>
LOWRANK_DEVICE void add_segment(const DeviceWeight& w, const Codebooks& books, const GemmOperand& x, int64_t m,
                                int64_t n, int64_t n0, bool rounds, float (&sums)[kRowsOfX][kRowsOfW]) {
  for (int64_t k = int64_t{threadIdx.x & 31} * 8; k < w.cols; k += 256) {
    float weights[kRowsOfW][8];
#pragma unroll
    for (int j = 0; j < kRowsOfW; ++j) {
      decode_eight<kFormat>(w, books, stored_row(w, n0 + j < n ? n0 + j : n0), k, weights[j]);
      if (rounds) {
#pragma unroll
        for (int e = 0; e < 8; ++e) weights[j][e] = round_bf16(weights[j][e]);
      }
    }
#pragma unroll
    for (int i = 0; i < kRowsOfX; ++i) {
      if (i >= m) break;
      float values[8];
      x_eight(x, i, k, w.cols - k, rounds, values);
#pragma unroll
      for (int j = 0; j < kRowsOfW; ++j)
#pragma unroll
        for (int e = 0; e < 8; ++e) sums[i][j] = fmaf(values[e], weights[j][e], sums[i][j]);
    }
  }
}

template <DeviceFormat kFormat>
LOWRANK_DEVICE void multiply_rows(const GemmCodesArgs& args) {
  const Codebooks books = codebooks_of<kFormat>(args.w);
  const GemmArgs& rest = args.rest;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int64_t n0 = (int64_t{blockIdx.x} * (kThreads / 32) + (threadIdx.x >> 5)) * kRowsOfW;
  if (n0 >= rest.n) return;
  float sums[kRowsOfX][kRowsOfW] = {};
  add_segment<kFormat>(args.w, books, args.x, rest.m, rest.n, n0, args.rounds != 0, sums);
  for (int s = 0; s < rest.segments; ++s) {
    const GemmSegment& segment = rest.segment[s];
    DeviceWeight w{};
    w.cols = segment.k;
    w.data = segment.w.data;
    w.ld = segment.w.ld;
    add_segment<DeviceFormat::f32>(w, {}, segment.x, rest.m, rest.n, n0, args.rounds != 0, sums);
  }
#pragma unroll
  for (int i = 0; i < kRowsOfX; ++i)
#pragma unroll
    for (int j = 0; j < kRowsOfW; ++j) {
      float sum = warp_sum(sums[i][j]);
      const int64_t column = n0 + j;
      if (lane != i * kRowsOfW + j || i >= rest.m || column >= rest.n) continue;
      if (rest.bias != nullptr) sum += rest.bias[column];
      if (rest.residual != nullptr) sum += rest.residual[i * rest.residual_ld + column];
      const int64_t at = i * rest.y_ld + column;
      if (rest.y_is_bf16 != 0) {
        static_cast<__nv_bfloat16*>(rest.y)[at] = __float2bfloat16_rn(sum);
      } else {
        static_cast<float*>(rest.y)[at] = sum;
      }
    }
}

}  // namespace

#define LOWRANK_GEMV(format) \
  LOWRANK_KERNEL(gemv_##format, GemmCodesArgs, kThreads, 2) { multiply_rows<DeviceFormat::format>(args); }
LOWRANK_GEMV(f32)
LOWRANK_GEMV(bf16)
LOWRANK_GEMV(f16)
LOWRANK_GEMV(nf4)
LOWRANK_GEMV(fp4)
LOWRANK_GEMV(int8)
LOWRANK_GEMV(q8_0)
LOWRANK_GEMV(q4_0)
LOWRANK_GEMV(q4_1)
LOWRANK_GEMV(q5_0)
LOWRANK_GEMV(q5_1)
LOWRANK_GEMV(iq4_nl)
LOWRANK_GEMV(q2_k)
LOWRANK_GEMV(q3_k)
LOWRANK_GEMV(q4_k)
LOWRANK_GEMV(q5_k)
LOWRANK_GEMV(q6_k)
LOWRANK_GEMV(iq4_xs)

}  // namespace lowrank::cuda
