// The matrix kernels for AVX-512 with bf16 dot products. Products asked for in fp32 are the AVX-512 level's.
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
#include <type_traits>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif

namespace lowrank::cpu {
namespace avx512bf16 {
namespace {

#define LOWRANK_GEMM_BF16 1

#include "backends/cpu/gemm_vector_avx512.inl"

#include "backends/cpu/bytes_x86.inl"

#include "backends/cpu/gemm_weights.inl"

#include "backends/cpu/gemm_decoded.inl"

#include "backends/cpu/gemm_driver.inl"

#include "backends/cpu/gemm_bf16.inl"

#include "backends/cpu/gemm_dot.inl"

#include "backends/cpu/gemm_vectors.inl"

#include "backends/cpu/gemm_vectors_bf16.inl"

#include "backends/cpu/gemm_sums.inl"

#include "backends/cpu/gemm_tokens_bf16.inl"

void gemm_nt(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32) return gemm_avx512.gemm_nt(pool, precision, m, n, segments, y, workspace);
  if (few_rows<Bf16Dots>(m, segments)) return multiply_few_rows<Bf16Dots>(pool, m, n, segments, y, workspace);
  multiply<DotTiles, true>(pool, m, n, segments, y, workspace);
}

void gemm_nn(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32) return gemm_avx512.gemm_nn(pool, precision, m, n, segments, y, workspace);
  multiply<DotTiles, false>(pool, m, n, segments, y, workspace);
}

void reduce_tokens(Pool& pool, Precision precision, int64_t tokens, const Operand& u, int64_t r, const Operand& x,
                   int64_t n, float scale, float* out, int64_t out_ld, bool transposed, std::byte* workspace) {
  if (precision == Precision::f32) {
    return gemm_avx512.reduce_tokens(pool, precision, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
  }
  reduce_tokens_bf16<DotTiles>(pool, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
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
}  // namespace avx512bf16

const GemmKernels gemm_avx512bf16 = {avx512bf16::gemm_nt, avx512bf16::gemm_nn, avx512bf16::reduce_tokens,
                                     avx512bf16::add_pair, avx512bf16::split_pair};

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
