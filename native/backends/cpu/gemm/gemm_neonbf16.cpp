// The matrix kernels for NEON with bf16 matrix products. Products asked for in fp32 are the NEON level's, and so are
// those of few rows, which are bound by reading the weights.
#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"

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

#include "backends/cpu/gemm/gemm_vector_neon.inl"

#include "backends/cpu/gemm/gemm_weights.inl"

#include "backends/cpu/gemm/gemm_decoded.inl"

#include "backends/cpu/gemm/gemm_driver.inl"

#include "backends/cpu/gemm/gemm_mmla.inl"

#include "backends/cpu/gemm/gemm_sums.inl"

#include "backends/cpu/gemm/gemm_tokens_bf16.inl"

void run(const Cpu& cpu, const GemmNt& k) {
  if (k.precision == Precision::f32 || k.m <= kFewRows) return run_of(gemm_neon, cpu, k);
  multiply<MmlaTiles, true>(cpu, k.m, k.n, SegmentViews(cpu, k.segments), k.to);
}

void run(const Cpu& cpu, const GemmNn& k) {
  if (k.precision == Precision::f32) return run_of(gemm_neon, cpu, k);
  multiply<MmlaTiles, false>(cpu, k.m, k.n, SegmentViews(cpu, k.segments), k.to);
}

void run(const Cpu& cpu, const ReduceTokens& k) {
  if (k.precision == Precision::f32) return run_of(gemm_neon, cpu, k);
  reduce_tokens_bf16<MmlaTiles>(cpu, k);
}

#include "backends/cpu/levels/table.inl"

}  // namespace
}  // namespace neonbf16

constinit const Table gemm_neonbf16 = neonbf16::runs;

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
