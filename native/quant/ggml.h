// Decoders of the GGML block formats that GGUF files hold, to fp32, and the encoder of Q8_0. The order of the operations
// is that of ggml's reference code, so the values agree bit for bit: the 16-bit fields are widened first, the scale of a
// sub-block is formed (d * sc), and an element is d*q, d*q + m or d*q - m with each step rounded.
#pragma once

#include <cstdint>

namespace lowrank {

inline constexpr int64_t kGgmlBlock = 32;        // elements of one block of the plain formats
inline constexpr int64_t kGgmlSuperBlock = 256;  // elements of one block of the k-quants and of IQ4_XS

inline constexpr int64_t kQ8_0Bytes = 34;   // f16 d; 32 signed bytes
inline constexpr int64_t kQ4_0Bytes = 18;   // f16 d; 16 bytes: low nibble of byte j is element j, high is j + 16
inline constexpr int64_t kQ4_1Bytes = 20;   // f16 d, f16 m; nibbles as Q4_0
inline constexpr int64_t kQ5_0Bytes = 22;   // f16 d; u32 whose bit j is the fifth bit of element j; nibbles as Q4_0
inline constexpr int64_t kQ5_1Bytes = 24;   // f16 d, f16 m; fifth bits; nibbles
inline constexpr int64_t kIq4NlBytes = 18;  // f16 d; nibbles as Q4_0 that name entries of a table

inline constexpr int64_t kQ2KBytes = 84;     // 16 bytes of scale | min << 4; 64 of 2-bit codes; f16 d, f16 dmin
inline constexpr int64_t kQ3KBytes = 110;    // 32 bytes of third bits; 64 of 2-bit codes; 12 of scales; f16 d
inline constexpr int64_t kQ4KBytes = 144;    // f16 d, f16 dmin; 12 bytes of scales and mins; 128 of nibbles
inline constexpr int64_t kQ5KBytes = 176;    // as Q4_K, with 32 bytes of fifth bits before the nibbles
inline constexpr int64_t kQ6KBytes = 210;    // 128 bytes of nibbles; 64 of the two bits above; 16 signed scales; f16 d
inline constexpr int64_t kIq4XsBytes = 136;  // f16 d; u16 and 4 bytes of 6-bit scales; 128 of nibbles into the table

/// Each decodes `count` elements, whole blocks, from `in` (any alignment).
void decode_q8_0(const void* in, int64_t count, float* out);
void decode_q4_0(const void* in, int64_t count, float* out);
void decode_q4_1(const void* in, int64_t count, float* out);
void decode_q5_0(const void* in, int64_t count, float* out);
void decode_q5_1(const void* in, int64_t count, float* out);
void decode_iq4_nl(const void* in, int64_t count, float* out);
void decode_q2_k(const void* in, int64_t count, float* out);
void decode_q3_k(const void* in, int64_t count, float* out);
void decode_q4_k(const void* in, int64_t count, float* out);
void decode_q5_k(const void* in, int64_t count, float* out);
void decode_q6_k(const void* in, int64_t count, float* out);
void decode_iq4_xs(const void* in, int64_t count, float* out);

/// The bytes of ggml's reference encoder, for finite numbers: d = max|x| / 127 in fp32, q = x / d rounded half away from
/// zero (by the reciprocal), and only then d to f16.
void encode_q8_0(const float* in, int64_t count, void* out);

}  // namespace lowrank
