// The operators compiled for AVX-512 with bf16 dot products, and on top of them attention and products with a Kronecker
// product on AMX tiles.
#if defined(__x86_64__)

#include "backends/cpu/levels/ops_simd.h"
#include "backends/cpu/levels/tile_intrinsics.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif

#define LOWRANK_VEC_BF16 1
namespace lowrank::cpu {
namespace avx512bf16 {
namespace {
// clang-format off: each of these builds on those before it
#include "backends/cpu/levels/vec_avx512.h"
#include "backends/cpu/levels/vec_math.inl"
#include "backends/cpu/levels/ops_simd.inl"
// clang-format on

// GCC's target regions nest; of clang's, a function takes the outermost one, so that this one replaces the first.
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,amx-tile,amx-bf16")
#endif
/// What the level amx has in place of some.
namespace tiles {
// clang-format off: the second uses the first
#include "backends/cpu/attention/attention_amx.inl"
#include "backends/cpu/adapters/kronecker_amx.inl"
#include "backends/cpu/levels/table.inl"
// clang-format on
}  // namespace tiles

#if !defined(__clang__)
#pragma GCC pop_options
#endif
}  // namespace
}  // namespace avx512bf16

constinit const Table table_avx512bf16 = avx512bf16::runs;
constinit const Table table_amx = avx512bf16::tiles::runs;
}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
