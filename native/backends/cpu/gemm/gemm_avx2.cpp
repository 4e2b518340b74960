// The matrix kernels for AVX2 with FMA and F16C. A product asked for in bf16 is computed in fp32 here: without bf16
// arithmetic, rounding the operands would cost time and buy nothing.
#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"

#if defined(__x86_64__)

// All headers come before the target region: what they define must run on any machine.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace lowrank::cpu {
namespace avx2 {
namespace {

// Sixteen registers hold a tile of 6 rows by 16 columns.
inline constexpr int kFp32PanelVectors = 1, kFp32TileRows = 6;
// A step of twelve products is short enough for the counting of steps to be felt.
inline constexpr int kFp32Steps = 2;

#include "backends/cpu/gemm/gemm_vector_avx2.inl"

#include "backends/cpu/gemm/bytes_x86.inl"

#include "backends/cpu/gemm/gemm_level_f32.inl"

}  // namespace
}  // namespace avx2

constinit const Table gemm_avx2 = avx2::runs;

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
