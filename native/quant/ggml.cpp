#include "quant/ggml.h"

#include <algorithm>
#include <cmath>

#include "core/dtype.h"

namespace lowrank {

const int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

namespace {

float half_at(const uint8_t* bytes) { return f32_from_f16(static_cast<uint16_t>(bytes[0] | (bytes[1] << 8))); }

uint32_t word_at(const uint8_t* bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

/// The fifth bit of element j of a block, from the word that holds those of all 32.
int fifth_bit(uint32_t bits, int j) { return static_cast<int>(bits >> j & 1) << 4; }

/// body(block, values) for one block after the other.
template <int64_t kElements, int64_t kBytes, class Body>
void for_blocks(const void* in, int64_t count, float* out, Body&& body) {
  const auto* block = static_cast<const uint8_t*>(in);
  for (int64_t i = 0; i < count; i += kElements, block += kBytes) body(block, out + i);
}

}  // namespace

void decode_q8_0(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kQ8_0Bytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const auto* q = reinterpret_cast<const int8_t*>(block + 2);
    for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(q[j]);
  });
}

void decode_q4_0(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kQ4_0Bytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const uint8_t* q = block + 2;
    for (int j = 0; j < 16; ++j) y[j] = d * static_cast<float>((q[j] & 15) - 8);
    for (int j = 0; j < 16; ++j) y[j + 16] = d * static_cast<float>((q[j] >> 4) - 8);
  });
}

void decode_q4_1(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kQ4_1Bytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const float m = half_at(block + 2);
    const uint8_t* q = block + 4;
    for (int j = 0; j < 16; ++j) y[j] = d * static_cast<float>(q[j] & 15) + m;
    for (int j = 0; j < 16; ++j) y[j + 16] = d * static_cast<float>(q[j] >> 4) + m;
  });
}

void decode_q5_0(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kQ5_0Bytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const uint32_t high = word_at(block + 2);
    const uint8_t* q = block + 6;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(((q[j] & 15) | fifth_bit(high, j)) - 16);
      y[j + 16] = d * static_cast<float>((q[j] >> 4 | fifth_bit(high, j + 16)) - 16);
    }
  });
}

void decode_q5_1(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kQ5_1Bytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const float m = half_at(block + 2);
    const uint32_t high = word_at(block + 4);
    const uint8_t* q = block + 8;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>((q[j] & 15) | fifth_bit(high, j)) + m;
      y[j + 16] = d * static_cast<float>(q[j] >> 4 | fifth_bit(high, j + 16)) + m;
    }
  });
}

void decode_iq4_nl(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlBlock, kIq4NlBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const uint8_t* q = block + 2;
    for (int j = 0; j < 16; ++j) y[j] = d * static_cast<float>(kIq4Values[q[j] & 15]);
    for (int j = 0; j < 16; ++j) y[j + 16] = d * static_cast<float>(kIq4Values[q[j] >> 4]);
  });
}

// The 2-bit codes of Q2_K and Q3_K: 32 bytes serve 128 elements, bits 0-1 the first 32 of them, and so on. Sub-blocks
// of 16 elements have a scale each.

void decode_q2_k(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kQ2KBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const uint8_t* scales = block;
    const uint8_t* q = block + 16;
    const float d = half_at(block + 80);
    const float dmin = half_at(block + 82);
    for (int sub = 0; sub < 16; ++sub, y += 16) {
      const uint8_t* codes = q + sub / 8 * 32 + sub % 2 * 16;
      const int shift = sub % 8 / 2 * 2;
      const float scale = d * static_cast<float>(scales[sub] & 15);
      const float min = dmin * static_cast<float>(scales[sub] >> 4);
      for (int j = 0; j < 16; ++j) y[j] = scale * static_cast<float>(codes[j] >> shift & 3) - min;
    }
  });
}

void decode_q3_k(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kQ3KBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const uint8_t* third = block;  // bit sub / 2 of byte j % 32 is the third bit of an element; 0 takes off 4
    const uint8_t* q = block + 32;
    const uint8_t* packed = block + 96;
    const float d = half_at(block + 108);
    for (int sub = 0; sub < 16; ++sub, y += 16) {
      const float scale = d * static_cast<float>(q3_k_scale(packed, sub));
      const uint8_t* codes = q + sub / 8 * 32 + sub % 2 * 16;
      const uint8_t* bits = third + sub % 2 * 16;
      const int shift = sub % 8 / 2 * 2;
      for (int j = 0; j < 16; ++j) {
        const int below = (bits[j] >> (sub / 2) & 1) != 0 ? 0 : 4;
        y[j] = scale * static_cast<float>((codes[j] >> shift & 3) - below);
      }
    }
  });
}

// The nibbles of Q4_K, Q5_K and IQ4_XS lie in runs: 32 bytes (16 of IQ4_XS) hold one sub-block in their low halves and
// the next one in their high halves.

void decode_q4_k(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kQ4KBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const float dmin = half_at(block + 2);
    for (int sub = 0; sub < 8; ++sub, y += 32) {
      const ScaleMin s = scale_min(block + 4, sub);
      const float scale = d * static_cast<float>(s.scale);
      const float min = dmin * static_cast<float>(s.min);
      const uint8_t* q = block + 16 + sub / 2 * 32;
      const int shift = sub % 2 * 4;
      for (int j = 0; j < 32; ++j) y[j] = scale * static_cast<float>(q[j] >> shift & 15) - min;
    }
  });
}

void decode_q5_k(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kQ5KBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    const float dmin = half_at(block + 2);
    const uint8_t* fifth = block + 16;  // bit `sub` of byte j
    for (int sub = 0; sub < 8; ++sub, y += 32) {
      const ScaleMin s = scale_min(block + 4, sub);
      const float scale = d * static_cast<float>(s.scale);
      const float min = dmin * static_cast<float>(s.min);
      const uint8_t* q = block + 48 + sub / 2 * 32;
      const int shift = sub % 2 * 4;
      for (int j = 0; j < 32; ++j) {
        const int code = (q[j] >> shift & 15) | (fifth[j] >> sub & 1) << 4;
        y[j] = scale * static_cast<float>(code) - min;
      }
    }
  });
}

void decode_q6_k(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kQ6KBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
    const float d = half_at(block + 208);
    // Each half of 128 elements has 64 bytes of nibbles and 32 bytes that hold two more bits of four elements each.
    for (int run = 0; run < 8; ++run, y += 32) {
      const uint8_t* low = block + run / 4 * 64 + run % 2 * 32;
      const uint8_t* high = block + 128 + run / 4 * 32;
      const int low_shift = run % 4 / 2 * 4;
      const int high_shift = run % 4 * 2;
      for (int j = 0; j < 32; ++j) {
        const int code = (low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4;
        const int group = run * 2 + j / 16;
        const float scale = d * static_cast<float>(scales[group]);
        y[j] = scale * static_cast<float>(code - 32);
      }
    }
  });
}

void decode_iq4_xs(const void* in, int64_t count, float* out) {
  for_blocks<kGgmlSuperBlock, kIq4XsBytes>(in, count, out, [](const uint8_t* block, float* y) {
    const float d = half_at(block);
    for (int sub = 0; sub < 8; ++sub, y += 32) {
      const float scale = d * static_cast<float>(iq4_xs_scale(block, sub));
      const uint8_t* q = block + 8 + sub * 16;
      for (int j = 0; j < 16; ++j) y[j] = scale * static_cast<float>(kIq4Values[q[j] & 15]);
      for (int j = 0; j < 16; ++j) y[j + 16] = scale * static_cast<float>(kIq4Values[q[j] >> 4]);
    }
  });
}

void encode_q8_0(const float* in, int64_t count, void* out) {
  auto* block = static_cast<uint8_t*>(out);
  for (int64_t i = 0; i < count; i += kGgmlBlock, block += kQ8_0Bytes) {
    float largest = 0;
    for (int64_t j = 0; j < kGgmlBlock; ++j) largest = std::max(largest, std::fabs(in[i + j]));
    const float d = largest / 127;
    const float inverse = d == 0 ? 0 : 1 / d;
    const uint16_t half = f16_from_f32(d);
    block[0] = static_cast<uint8_t>(half);
    block[1] = static_cast<uint8_t>(half >> 8);
    for (int64_t j = 0; j < kGgmlBlock; ++j)
      block[2 + j] = static_cast<uint8_t>(static_cast<int8_t>(std::round(in[i + j] * inverse)));
  }
}

}  // namespace lowrank
