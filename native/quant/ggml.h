// Decoders of the GGML block formats that GGUF files hold, to fp32. The order of the operations is that of ggml's
// reference code, so the values agree bit for bit: the 16-bit fields are widened first, then d*(q - 8), d*q + m or d*q.
#pragma once

#include <cstdint>

namespace lowrank {

/// Elements of one block of Q8_0, Q4_0 and Q4_1; rows are whole blocks.
inline constexpr int64_t kGgmlBlock = 32;
inline constexpr int64_t kQ8_0Bytes = 34;  // f16 d; 32 signed bytes
inline constexpr int64_t kQ4_0Bytes = 18;  // f16 d; 16 bytes: low nibble of byte j is element j, high is j + 16
inline constexpr int64_t kQ4_1Bytes = 20;  // f16 d, f16 m; nibbles as Q4_0

/// Each decodes `count` elements, a multiple of 32, from `in` (any alignment).
void decode_q8_0(const void* in, int64_t count, float* out);
void decode_q4_0(const void* in, int64_t count, float* out);
void decode_q4_1(const void* in, int64_t count, float* out);

}  // namespace lowrank
