// The one include of kernels: CUDA's language and headers, and the instructions that have no name in them. With
// LOWRANK_EMULATE the host's compiler takes kernels as C++, and tests run them. PTX is written here alone.
#pragma once

#if defined(LOWRANK_EMULATE)
#include "backends/cuda/emulate/device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "kernel.h"

#if !defined(LOWRANK_EMULATE)

/// Defines a kernel that takes `args`, for blocks of at most `threads` threads, `blocks` of which share a
/// multiprocessor.
#define LOWRANK_KERNEL(name, Args, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Args args)
/// Functions of kernels. Others that a file defines belong into an unnamed namespace.
#define LOWRANK_DEVICE static __device__ __forceinline__
/// An array of a block: LOWRANK_SHARED(float, sums, [32]), aligned as its type is, or as said.
#define LOWRANK_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define LOWRANK_SHARED_ALIGNED(alignment, T, name, ...) \
  __shared__ __align__(alignment)                       \
  T name __VA_ARGS__
/// The memory of a block whose size the launch says, aligned to 128 bytes.
#define LOWRANK_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(128) unsigned char dynamic_shared_memory[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared_memory)

namespace lowrank::cuda {

LOWRANK_DEVICE unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Copies 16 bytes beside the other work; both ends are aligned to 16.
LOWRANK_DEVICE void cp_async16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
/// Copies the first `bytes`, 0 to 16, and zeros the others.
LOWRANK_DEVICE void cp_async16_zfill(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}
LOWRANK_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all committed groups of this thread but the last N.
template <int N>
LOWRANK_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Loads 8x8 matrices of 16-bit numbers: lane i names row i % 8 of matrix i / 8, 16 bytes, and gets of each matrix two
/// neighbors of row lane / 4, from column 2 (lane % 4) on.
LOWRANK_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared))
               : "memory");
}
/// The same of the transposed matrices.
LOWRANK_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared))
               : "memory");
}

/// d [16, 8] += a [16, 16] b [16, 8] of a warp. With g = lane / 4 and t = lane % 4 a holds of rows g, g + 8, g, g + 8
/// the columns 2t, 2t, 2t + 8, 2t + 8 and the next; b of column g the rows 2t, 2t + 8 and the next; d of row g the
/// columns 2t and 2t + 1, then those of row g + 8.
LOWRANK_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace lowrank::cuda

#endif  // LOWRANK_EMULATE

namespace lowrank::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);

// ---- numbers

LOWRANK_DEVICE float to_float(float v) { return v; }
LOWRANK_DEVICE float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
LOWRANK_DEVICE float to_float(__half v) { return __half2float(v); }
template <class T>
struct Rounded;
template <>
struct Rounded<float> {
  __device__ __forceinline__ static float from(float v) { return v; }
};
template <>
struct Rounded<__nv_bfloat16> {
  __device__ __forceinline__ static __nv_bfloat16 from(float v) { return __float2bfloat16_rn(v); }
};
/// The number as T, to the nearest.
template <class T>
LOWRANK_DEVICE T from_float(float v) {
  return Rounded<T>::from(v);
}
LOWRANK_DEVICE float round_bf16(float v) { return __bfloat162float(__float2bfloat16_rn(v)); }

/// Two bf16 numbers side by side, the first in the lower half.
LOWRANK_DEVICE uint32_t pack_bf16(float lo, float hi) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(hi))) << 16 |
         __bfloat16_as_ushort(__float2bfloat16_rn(lo));
}

// ---- threads and numbers of a launch

LOWRANK_DEVICE int lane_of() { return static_cast<int>(threadIdx.x) & 31; }
LOWRANK_DEVICE int warp_of() { return static_cast<int>(threadIdx.x) >> 5; }
LOWRANK_DEVICE int64_t thread_of_grid() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
LOWRANK_DEVICE float element(const void* data, int bf16, int64_t at) {
  return bf16 ? to_float(static_cast<const __nv_bfloat16*>(data)[at]) : static_cast<const float*>(data)[at];
}

// ---- 16 bytes at once

template <class T>
struct alignas(16) Pack {
  static constexpr int kCount = 16 / sizeof(T);
  T at[kCount];
};
template <class T>
LOWRANK_DEVICE bool aligned16(const T* at) {
  return (reinterpret_cast<uint64_t>(at) & 15) == 0;
}
template <class T>
LOWRANK_DEVICE Pack<T> load16(const T* at) {
  return *reinterpret_cast<const Pack<T>*>(at);
}
template <class T>
LOWRANK_DEVICE void store16(T* at, const Pack<T>& v) {
  *reinterpret_cast<Pack<T>*>(at) = v;
}

// ---- sums, in an order that no schedule changes; every lane or thread gets the result

template <class T>
LOWRANK_DEVICE T warp_sum(T v) {
#pragma unroll
  for (int bits = 16; bits > 0; bits >>= 1) v += __shfl_xor_sync(kAllLanes, v, bits);
  return v;
}
LOWRANK_DEVICE float warp_max(float v) {
#pragma unroll
  for (int bits = 16; bits > 0; bits >>= 1) v = fmaxf(v, __shfl_xor_sync(kAllLanes, v, bits));
  return v;
}
/// The sum over a block of whole warps, all of whose threads call it.
template <class T>
LOWRANK_DEVICE T block_sum(T v) {
  LOWRANK_SHARED(T, sums, [32]);
  v = warp_sum(v);
  const int warps = static_cast<int>(blockDim.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
  __syncthreads();  // of an earlier call all have read
  if (lane == 0) sums[threadIdx.x >> 5] = v;
  __syncthreads();
  return warp_sum(lane < warps ? sums[lane] : T{});
}
LOWRANK_DEVICE float block_max(float v) {
  LOWRANK_SHARED(float, most, [32]);
  v = warp_max(v);
  const int warps = static_cast<int>(blockDim.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
  __syncthreads();
  if (lane == 0) most[threadIdx.x >> 5] = v;
  __syncthreads();
  return warp_max(lane < warps ? most[lane] : most[0]);
}

}  // namespace lowrank::cuda
