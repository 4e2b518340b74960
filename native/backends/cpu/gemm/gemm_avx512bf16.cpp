// The matrix kernels for AVX-512 with bf16 dot products. Products asked for in fp32 are the AVX-512 level's.
#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"

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

#include "backends/cpu/gemm/gemm_vector_avx512.inl"

#include "backends/cpu/gemm/bytes_x86.inl"

#include "backends/cpu/gemm/gemm_weights.inl"

#include "backends/cpu/gemm/gemm_decoded.inl"

#include "backends/cpu/gemm/gemm_driver.inl"

#include "backends/cpu/gemm/gemm_bf16.inl"

#include "backends/cpu/gemm/gemm_dot.inl"

#include "backends/cpu/gemm/gemm_vectors.inl"

#include "backends/cpu/gemm/gemm_vectors_bf16.inl"

#include "backends/cpu/gemm/gemm_by_row.inl"

#include "backends/cpu/gemm/gemm_sums.inl"

#include "backends/cpu/gemm/gemm_tokens_bf16.inl"

void run(const Cpu& cpu, const GemmNt& k) {
  if (k.precision == Precision::f32) return run_of(gemm_avx512, cpu, k);
  const SegmentViews segments(cpu, k.segments);
  if (few_rows<Bf16Dots>(k.m, segments)) return multiply_few_rows<Bf16Dots>(cpu, k.m, k.n, segments, k.to);
  multiply<DotTiles, true>(cpu, k.m, k.n, segments, k.to);
}

void run(const Cpu& cpu, const GemmNtByRow& k) {
  k.precision == Precision::f32 ? run_of(gemm_avx512, cpu, k) : multiply_by_row<Bf16Dots>(cpu, k);
}

void run(const Cpu& cpu, const GemmNn& k) {
  if (k.precision == Precision::f32) return run_of(gemm_avx512, cpu, k);
  multiply<DotTiles, false>(cpu, k.m, k.n, SegmentViews(cpu, k.segments), k.to);
}

void run(const Cpu& cpu, const ReduceTokens& k) {
  if (k.precision == Precision::f32) return run_of(gemm_avx512, cpu, k);
  reduce_tokens_bf16<DotTiles>(cpu, k);
}

#include "backends/cpu/levels/table.inl"

}  // namespace
}  // namespace avx512bf16

constinit const Table gemm_avx512bf16 = avx512bf16::runs;

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
