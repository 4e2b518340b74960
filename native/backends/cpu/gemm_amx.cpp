// The matrix kernels for AMX tiles. Products asked for in fp32, and those of a few rows, are those of the levels below.
#include "backends/cpu/kernels.h"
#include "backends/cpu/gemm_plan.h"

#if defined(__x86_64__)

// All headers come before the target region: what they define must run on any machine.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms of GCC 12 about its own intrinsics
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/tile_intrinsics.h"

#if defined(__clang__)
#pragma clang attribute push(                                                                                 \
    __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif

namespace lowrank::cpu {
namespace amx {
namespace {

#define LOWRANK_GEMM_BF16 1

#include "backends/cpu/gemm_vector_avx512.inl"

#include "backends/cpu/bytes_x86.inl"

#include "backends/cpu/gemm_weights.inl"

#include "backends/cpu/gemm_decoded.inl"

#include "backends/cpu/gemm_driver.inl"

#include "backends/cpu/gemm_bf16.inl"

#include "backends/cpu/gemm_amx.inl"

#include "backends/cpu/gemm_turned.inl"

#include "backends/cpu/gemm_sums.inl"

#include "backends/cpu/gemm_tokens_bf16.inl"

void gemm_nt(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32 || m <= kFewRows) {
    return gemm_avx512bf16.gemm_nt(pool, precision, m, n, segments, y, workspace);
  }
  if (turned(m, n, segments)) return multiply_turned(pool, m, n, segments, y, workspace);
  multiply<AmxTiles, true>(pool, m, n, segments, y, workspace);
}

void gemm_nn(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32) return gemm_avx512.gemm_nn(pool, precision, m, n, segments, y, workspace);
  multiply<AmxTiles, false>(pool, m, n, segments, y, workspace);
}

void reduce_tokens(Pool& pool, Precision precision, int64_t tokens, const Operand& u, int64_t r, const Operand& x,
                   int64_t n, float scale, float* out, int64_t out_ld, bool transposed, std::byte* workspace) {
  if (precision == Precision::f32) {
    return gemm_avx512.reduce_tokens(pool, precision, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
  }
  reduce_tokens_bf16<AmxTiles>(pool, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
}

// Sums of few fp32 terms: bf16 would gain nothing.
void add_pair(Pool& pool, const PairFactors& factors, const WeightView* w, float scale, const float* gains,
              float* out) {
  gemm_avx512.add_pair(pool, factors, w, scale, gains, out);
}

void split_pair(Pool& pool, const PairFactors& factors, const float* gains, float* g, float* second) {
  gemm_avx512.split_pair(pool, factors, gains, g, second);
}

}  // namespace
}  // namespace amx

const GemmKernels gemm_amx = {amx::gemm_nt, amx::gemm_nn, amx::reduce_tokens, amx::add_pair, amx::split_pair};

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
