// The language of CUDA's kernels, as far as they use it, for the host's compiler. Threads of a block are fibers that
// run in an order of the test's choice, and undefined behavior is an error: see machine.h.
#pragma once

#include <cmath>

#include "backends/cuda/emulate/runtime.h"

#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __constant__ static const
#define __restrict__ __restrict

#define threadIdx (::lowrank::cuda::emulate::thread_index())
#define blockIdx (::lowrank::cuda::emulate::block_index())
#define blockDim (::lowrank::cuda::emulate::block_size())
#define gridDim (::lowrank::cuda::emulate::grid_size())

static inline void __syncthreads(LOWRANK_HERE) { lowrank::cuda::emulate::barrier("__syncthreads", false, here); }
static inline int __syncthreads_or(int v, LOWRANK_HERE) {
  return lowrank::cuda::emulate::barrier("__syncthreads_or", v != 0, here).yes > 0;
}
static inline int __syncthreads_and(int v, LOWRANK_HERE) {
  const auto votes = lowrank::cuda::emulate::barrier("__syncthreads_and", v != 0, here);
  return votes.yes == votes.all;
}
static inline int __syncthreads_count(int v, LOWRANK_HERE) {
  return lowrank::cuda::emulate::barrier("__syncthreads_count", v != 0, here).yes;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, LOWRANK_HERE) {
  lowrank::cuda::emulate::meet(mask, "__syncwarp", nullptr, 0, nullptr, here);
}

// `width` lanes are a group of their own; reads beyond it give the lane's own value.
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, LOWRANK_HERE) {
  const auto from = [=](int lane) { return (lane & ~(width - 1)) | (source & (width - 1)); };
  return lowrank::cuda::emulate::shuffle(mask, value, "__shfl_sync", from, here);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, LOWRANK_HERE) {
  const auto from = [=](int lane) { return (lane ^ bits) < (lane | (width - 1)) + 1 ? lane ^ bits : lane; };
  return lowrank::cuda::emulate::shuffle(mask, value, "__shfl_xor_sync", from, here);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, LOWRANK_HERE) {
  const auto from = [=](int lane) {
    return (lane & (width - 1)) + static_cast<int>(by) < width ? lane + static_cast<int>(by) : lane;
  };
  return lowrank::cuda::emulate::shuffle(mask, value, "__shfl_down_sync", from, here);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, LOWRANK_HERE) {
  const auto from = [=](int lane) {
    return (lane & (width - 1)) >= static_cast<int>(by) ? lane - static_cast<int>(by) : lane;
  };
  return lowrank::cuda::emulate::shuffle(mask, value, "__shfl_up_sync", from, here);
}
static inline unsigned __ballot_sync(unsigned mask, int vote, LOWRANK_HERE) {
  const unsigned char yes = vote != 0;
  const auto all = lowrank::cuda::emulate::meet(mask, "__ballot_sync", &yes, 1, nullptr, here);
  unsigned result = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) result |= static_cast<unsigned>(all[lane][0]) << lane;
  return result;
}
static inline int __any_sync(unsigned mask, int vote, LOWRANK_HERE) { return __ballot_sync(mask, vote, here) != 0; }
static inline int __all_sync(unsigned mask, int vote, LOWRANK_HERE) { return __ballot_sync(mask, !vote, here) == 0; }
static inline unsigned __activemask(LOWRANK_HERE) {
  lowrank::cuda::emulate::fail("__activemask depends on the schedule: name the lanes", here);
}

static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline int atomicAdd(int* to, int value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
static inline unsigned atomicAdd(unsigned* to, unsigned value) {
  return __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}
template <class T>
static inline T __ldg(const T* at) {
  return *at;
}

static inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
static inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
static inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
static inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
// The C library has these names for something else.
#define __expf(v) std::exp(v)
#define __logf(v) std::log(v)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float v) { return std::sqrt(v); }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
template <class T>
static inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
  return a < b ? b : a;
}

/// Four of the eight bytes of a and b, picked by the low three bits of each half-byte of the selector.
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<unsigned>(bytes >> ((selector >> (4 * i) & 7) * 8) & 0xff) << (8 * i);
  return result;
}
