// The operators compiled for AVX-512 F, BW, DQ and VL.
#if defined(__x86_64__)

#include "backends/cpu/levels/ops_simd.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define LOWRANK_VEC_BF16 0
namespace lowrank::cpu {
namespace avx512 {
namespace {
// clang-format off: each of these builds on those before it
#include "backends/cpu/levels/vec_avx512.h"
#include "backends/cpu/levels/vec_math.inl"
#include "backends/cpu/levels/ops_simd.inl"
// clang-format on
}  // namespace
}  // namespace avx512

constinit const Table table_avx512 = avx512::runs;
}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
