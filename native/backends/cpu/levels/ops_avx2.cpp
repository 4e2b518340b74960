// The operators compiled for AVX2, FMA and F16C.
#if defined(__x86_64__)

#include "backends/cpu/levels/ops_simd.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#define LOWRANK_VEC_BF16 0
namespace lowrank::cpu {
namespace avx2 {
namespace {
// clang-format off: each of these builds on those before it
#include "backends/cpu/levels/vec_avx2.h"
#include "backends/cpu/levels/vec_math.inl"
#include "backends/cpu/levels/ops_simd.inl"
// clang-format on
}  // namespace
}  // namespace avx2

constinit const Table table_avx2 = avx2::runs;
}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
