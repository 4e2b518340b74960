// The matrix kernels for AVX-512. A product asked for in bf16 is computed in fp32 here: without bf16 arithmetic,
// rounding the operands would cost time and buy nothing.
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
#include <iterator>
#include <type_traits>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

namespace lowrank::cpu {
namespace avx512 {
namespace {

#define LOWRANK_GEMM_BF16 0

// Thirty-two registers hold a tile of 6 rows by 64 columns.
inline constexpr int kFp32PanelVectors = 4, kFp32TileRows = 6;
inline constexpr int kFp32Steps = 1;

#include "backends/cpu/gemm/gemm_vector_avx512.inl"

#include "backends/cpu/gemm/bytes_x86.inl"

#include "backends/cpu/gemm/gemm_level_f32.inl"

}  // namespace
}  // namespace avx512

constinit const Table gemm_avx512 = avx512::runs;

}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
