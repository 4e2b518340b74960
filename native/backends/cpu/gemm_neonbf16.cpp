// The matrix kernels for NEON with bf16 matrix products. Products asked for in fp32 are the NEON level's, and so are
// those of few rows, which are bound by reading the weights.
#include "backends/cpu/kernels.h"
#include "backends/cpu/gemm_plan.h"

#if defined(__aarch64__)

// All headers come before the target region: what they define must run on any machine.
#include <arm_neon.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+bf16")
#endif

namespace lowrank::cpu {
namespace neonbf16 {
namespace {

#define LOWRANK_GEMM_BF16 1

#include "backends/cpu/gemm_vector_neon.inl"

#include "backends/cpu/gemm_weights.inl"

#include "backends/cpu/gemm_decoded.inl"

#include "backends/cpu/gemm_driver.inl"

#include "backends/cpu/gemm_mmla.inl"

#include "backends/cpu/gemm_sums.inl"

#include "backends/cpu/gemm_tokens_bf16.inl"

void gemm_nt(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32 || m <= kFewRows)
    return gemm_neon.gemm_nt(pool, precision, m, n, segments, y, workspace);
  multiply<MmlaTiles, true>(pool, m, n, segments, y, workspace);
}

void gemm_nn(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (precision == Precision::f32) return gemm_neon.gemm_nn(pool, precision, m, n, segments, y, workspace);
  multiply<MmlaTiles, false>(pool, m, n, segments, y, workspace);
}

void reduce_tokens(Pool& pool, Precision precision, int64_t tokens, const Operand& u, int64_t r, const Operand& x,
                   int64_t n, float scale, float* out, int64_t out_ld, bool transposed, std::byte* workspace) {
  if (precision == Precision::f32)
    return gemm_neon.reduce_tokens(pool, precision, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
  reduce_tokens_bf16<MmlaTiles>(pool, tokens, u, r, x, n, scale, out, out_ld, transposed, workspace);
}

// Sums of few fp32 terms: bf16 would gain nothing.
void add_pair(Pool& pool, const PairFactors& factors, const WeightView* w, float scale, const float* gains,
              float* out) {
  gemm_neon.add_pair(pool, factors, w, scale, gains, out);
}

void split_pair(Pool& pool, const PairFactors& factors, const float* gains, float* g, float* second) {
  gemm_neon.split_pair(pool, factors, gains, g, second);
}

}  // namespace
}  // namespace neonbf16

const GemmKernels gemm_neonbf16 = {neonbf16::gemm_nt, neonbf16::gemm_nn, neonbf16::reduce_tokens, neonbf16::add_pair,
                                   neonbf16::split_pair};

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
