// The operators compiled for AVX-512 with bf16 dot products.
#if defined(__x86_64__)

#include "backends/cpu/ops_simd.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif

#define LOWRANK_VEC_BF16 1
namespace lowrank::cpu {
namespace avx512bf16 {
namespace {
#include "backends/cpu/vec_avx512.h"
#include "backends/cpu/vec_math.inl"
#include "backends/cpu/attention_tiles.inl"
#include "backends/cpu/attention_decode.inl"
#include "backends/cpu/attention.inl"
#include "backends/cpu/attention_backward.inl"
#include "backends/cpu/ops_simd.inl"
}  // namespace
}  // namespace avx512bf16

constinit const OpKernels ops_avx512bf16 = avx512bf16::table;
}  // namespace lowrank::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
