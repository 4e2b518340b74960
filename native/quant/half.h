// Array conversions between fp32 and the 16-bit formats, written without branches so that compilers can vectorize
// them.
#pragma once

#include <cstring>

#include "core/dtype.h"

namespace lowrank {

/// Widens `count` fp16 elements at `in` (any alignment); exact.
inline void decode_f16(const void* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t half;
    std::memcpy(&half, static_cast<const char*>(in) + 2 * i, sizeof half);
    const int32_t magnitude = half & 0x7fff;
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    const uint32_t normal = (static_cast<uint32_t>(magnitude) << 13) + 0x38000000u;
    const uint32_t special = normal + 0x38000000u;  // infinity and NaN: the exponent becomes 255
    const uint32_t subnormal = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
    const uint32_t small = magnitude < 0x0400 ? subnormal : normal;
    out[i] = std::bit_cast<float>(sign | (magnitude >= 0x7c00 ? special : small));
  }
}

/// Widens `count` bf16 elements at `in` (any alignment); exact.
inline void decode_bf16(const void* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t value;
    std::memcpy(&value, static_cast<const char*>(in) + 2 * i, sizeof value);
    out[i] = f32_from_bf16(value);
  }
}

/// Rounds to nearest even.
inline void encode_bf16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(in[i]);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40u;
    out[i] = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}

/// Rounds to nearest even; values from 65520 up become infinity.
inline void encode_f16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = f16_from_f32(in[i]);
}

}  // namespace lowrank
