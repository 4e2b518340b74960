// The operators compiled for NEON with bf16 dot products.
#if defined(__aarch64__)

#include "backends/cpu/levels/ops_simd.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+bf16")
#endif

#define LOWRANK_VEC_BF16 1
namespace lowrank::cpu {
namespace neonbf16 {
namespace {
// clang-format off: each of these builds on those before it
#include "backends/cpu/levels/vec_neon.h"
#include "backends/cpu/levels/vec_math.inl"
#include "backends/cpu/levels/ops_simd.inl"
// clang-format on
}  // namespace
}  // namespace neonbf16

constinit const Table table_neonbf16 = neonbf16::runs;
}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __aarch64__
