// Decoders from the GGML block formats in GGUF files to fp32, and the encoder of Q8_0. Operations are in the order of
// ggml's reference code, so values agree bit for bit: 16-bit fields are widened first, then the scale of a sub-block is
// computed (d * sc), and an element is d*q, d*q + m, or d*q - m with every step rounded.
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

/// Each decodes `count` elements, in whole blocks, from `in` (any alignment).
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

/// The block formats.
enum class GgmlType : uint8_t { q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_xs };
inline constexpr int kGgmlTypes = 12;

/// Row layout of a format, and the decoder of its blocks.
struct GgmlLayout {
  const char* name;
  int64_t elements;  // per block
  int64_t bytes;     // per block
  void (*decode)(const void* in, int64_t count, float* out);

  constexpr int64_t row_bytes(int64_t cols) const { return cols / elements * bytes; }
};
/// In the order of GgmlType.
inline constexpr GgmlLayout kGgmlLayouts[kGgmlTypes] = {
    {"q8_0", kGgmlBlock, kQ8_0Bytes, decode_q8_0},     {"q4_0", kGgmlBlock, kQ4_0Bytes, decode_q4_0},
    {"q4_1", kGgmlBlock, kQ4_1Bytes, decode_q4_1},     {"q5_0", kGgmlBlock, kQ5_0Bytes, decode_q5_0},
    {"q5_1", kGgmlBlock, kQ5_1Bytes, decode_q5_1},     {"iq4_nl", kGgmlBlock, kIq4NlBytes, decode_iq4_nl},
    {"q2_k", kGgmlSuperBlock, kQ2KBytes, decode_q2_k}, {"q3_k", kGgmlSuperBlock, kQ3KBytes, decode_q3_k},
    {"q4_k", kGgmlSuperBlock, kQ4KBytes, decode_q4_k}, {"q5_k", kGgmlSuperBlock, kQ5KBytes, decode_q5_k},
    {"q6_k", kGgmlSuperBlock, kQ6KBytes, decode_q6_k}, {"iq4_xs", kGgmlSuperBlock, kIq4XsBytes, decode_iq4_xs},
};
constexpr const GgmlLayout& layout_of(GgmlType type) { return kGgmlLayouts[static_cast<int>(type)]; }

/// The values of the codes in IQ4_NL and IQ4_XS.
extern const int8_t kIq4Values[16];

/// The 6-bit scale and minimum of sub-block j in the 12 bytes of Q4_K and Q5_K: those of the first four are in the low
/// bits of bytes j and j + 4; the others have four bits in byte j + 4 and two at the top of the first four's.
struct ScaleMin {
  int scale, min;
};
inline ScaleMin scale_min(const uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4};
}
/// The scale of sub-block j of 16 elements out of the 12 bytes of Q3_K: four bits in the first eight bytes, two in the
/// others.
inline int q3_k_scale(const uint8_t* packed, int j) {
  const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
  return (low | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
}
/// The scale of sub-block j of 32 elements of an IQ4_XS block.
inline int iq4_xs_scale(const uint8_t* block, int j) {
  const int low = block[4 + j / 2] >> (j % 2 * 4) & 15, high = (block[2] | block[3] << 8) >> (j * 2) & 3;
  return (low | high << 4) - 32;
}

/// Reproduces the bytes of ggml's reference encoder for finite numbers: d = max|x| / 127 in fp32, q = x / d rounded
/// half away from zero (using the reciprocal), and only then d to f16.
void encode_q8_0(const float* in, int64_t count, void* out);

}  // namespace lowrank
