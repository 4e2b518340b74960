// CUDA's types as kernels use them, for the host's compiler.
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.h"

struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

/// Names as in cuda_bf16.h and cuda_fp16.h; bits as in those.
struct __nv_bfloat16 {
  uint16_t x;
};
struct __half {
  uint16_t x;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct alignas(4) __half2 {
  __half x, y;
};

static inline float __bfloat162float(__nv_bfloat16 v) { return std::bit_cast<float>(static_cast<uint32_t>(v.x) << 16); }
static inline __nv_bfloat16 __float2bfloat16_rn(float v) {
  const auto bits = std::bit_cast<uint32_t>(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return {v}; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.x; }
static inline float __half2float(__half v) { return lowrank::f32_from_f16(v.x); }
static inline __half __float2half_rn(float v) { return {lowrank::f16_from_f32(v)}; }
static inline __half __ushort_as_half(unsigned short v) { return {v}; }
static inline unsigned short __half_as_ushort(__half v) { return v.x; }
