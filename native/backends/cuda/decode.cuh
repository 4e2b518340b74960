// Decoding of weights, eight neighbors at a time: one function for each format, with the values of quant/weight.h bit
// for bit. Blocks of GGUF files lie at multiples of two bytes.
#pragma once

#include "device.cuh"
#include "tables.cuh"
#include "device_weight.h"

namespace lowrank::cuda {
namespace {

template <bool kFirst, class A, class B>
struct Pick {
  using Type = A;
};
template <class A, class B>
struct Pick<false, A, B> {
  using Type = B;
};

/// The tables that a format needs, in shared memory, where each lane may read another entry at once.
struct Codebooks {
  const float* codes;    // of the 4-bit formats and IQ4
  const float* dynamic;  // of double quantization
};

/// All threads of a block call it, once.
template <DeviceFormat kFormat>
LOWRANK_DEVICE Codebooks codebooks_of(const DeviceWeight& w) {
  constexpr bool kIq4 = kFormat == DeviceFormat::iq4_nl || kFormat == DeviceFormat::iq4_xs;
  Codebooks books{};
  if constexpr (is_four_bit(kFormat) || kIq4) {
    LOWRANK_SHARED(float, codes, [16]);
    const float* const from = kIq4 ? kIq4Codes : kFormat == DeviceFormat::nf4 ? kNf4Codes : kFp4Codes;
    for (unsigned i = threadIdx.x; i < 16; i += blockDim.x) codes[i] = from[i];
    books.codes = codes;
    if constexpr (is_four_bit(kFormat)) {
      LOWRANK_SHARED(float, dynamic, [256]);
      if (w.absmax == nullptr)
        for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) dynamic[i] = kDynamicCodes[i];
      books.dynamic = dynamic;
    }
    __syncthreads();
  }
  return books;
}

/// Eight bytes from an address that is a multiple of kAligned.
template <int kAligned>
LOWRANK_DEVICE uint64_t eight_bytes(const uint8_t* at) {
  if constexpr (kAligned >= 8) {
    return *reinterpret_cast<const uint64_t*>(at);
  } else {
    using Word = typename Pick<kAligned == 4, uint32_t, uint16_t>::Type;
    uint64_t bytes = 0;
#pragma unroll
    for (int i = 0; i < 8 / kAligned; ++i)
      bytes |= static_cast<uint64_t>(reinterpret_cast<const Word*>(at)[i]) << (8 * kAligned * i);
    return bytes;
  }
}
LOWRANK_DEVICE int byte_of(uint64_t bytes, int i) { return static_cast<int>(bytes >> (8 * i) & 255); }
LOWRANK_DEVICE int nibble_of(uint64_t bytes, int i, int high) {
  return static_cast<int>(bytes >> (8 * i + 4 * high) & 15);
}
LOWRANK_DEVICE float half_at(const uint8_t* at) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(at)));
}

/// Scale of a block of 64 codes, a number of 32 or of 64 bits.
template <class Index>
LOWRANK_DEVICE float scale_of_block(const DeviceWeight& w, const Codebooks& books, Index block) {
  if (w.absmax != nullptr) return w.absmax[block];
  const Index nested = (block + static_cast<Index>(w.nested_skip)) / 256;
  const float scaled = books.dynamic[w.absmax_codes[block]] * w.nested_absmax[nested];
  return scaled + w.absmax_offset;
}

/// Element `flat` of a matrix of 4-bit codes.
LOWRANK_DEVICE float four_bit_element(const DeviceWeight& w, const Codebooks& books, int64_t flat) {
  const int64_t block = flat / 64;
  const int i = static_cast<int>(flat % 64);
  const int byte = static_cast<const uint8_t*>(w.data)[block * 32 + i % 32];
  return books.codes[i < 32 ? byte & 15 : byte >> 4] * scale_of_block(w, books, block);
}

// ---- GGUF blocks, each from element j on, a multiple of 8

struct BlockShape {
  int elements, bytes;
};
constexpr BlockShape shape_of(DeviceFormat format) {
  switch (format) {
    case DeviceFormat::q8_0:
      return {32, 34};
    case DeviceFormat::q4_0:
    case DeviceFormat::iq4_nl:
      return {32, 18};
    case DeviceFormat::q4_1:
      return {32, 20};
    case DeviceFormat::q5_0:
      return {32, 22};
    case DeviceFormat::q5_1:
      return {32, 24};
    case DeviceFormat::q2_k:
      return {256, 84};
    case DeviceFormat::q3_k:
      return {256, 110};
    case DeviceFormat::q4_k:
      return {256, 144};
    case DeviceFormat::q5_k:
      return {256, 176};
    case DeviceFormat::q6_k:
      return {256, 210};
    case DeviceFormat::iq4_xs:
      return {256, 136};
    default:
      return {1, 1};
  }
}

/// The 6-bit scale and minimum of sub-block `sub` of Q4_K and Q5_K; see quant/ggml.h.
LOWRANK_DEVICE void scale_and_min(const uint8_t* packed, int sub, int& scale, int& min) {
  if (sub < 4) {
    scale = packed[sub] & 63;
    min = packed[sub + 4] & 63;
  } else {
    scale = (packed[sub + 4] & 15) | (packed[sub - 4] >> 6) << 4;
    min = packed[sub + 4] >> 4 | (packed[sub] >> 6) << 4;
  }
}
LOWRANK_DEVICE int q3_k_scale(const uint8_t* packed, int sub) {
  const int low = sub < 8 ? packed[sub] & 15 : packed[sub - 8] >> 4;
  return (low | (packed[8 + sub % 4] >> (sub / 4 * 2) & 3) << 4) - 32;
}
LOWRANK_DEVICE int iq4_xs_scale(const uint8_t* block, int sub) {
  const int low = block[4 + sub / 2] >> (sub % 2 * 4) & 15, high = (block[2] | block[3] << 8) >> (sub * 2) & 3;
  return (low | high << 4) - 32;
}

template <DeviceFormat kFormat>
LOWRANK_DEVICE void decode_block(const uint8_t* block, const Codebooks& books, int j, float (&out)[8]) {
  using enum DeviceFormat;
  if constexpr (kFormat == q8_0) {
    const float d = half_at(block);
    const uint64_t q = eight_bytes<2>(block + 2 + j);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(byte_of(q, i)));
  } else if constexpr (kFormat == q4_0 || kFormat == iq4_nl) {
    const float d = half_at(block);
    const uint64_t q = eight_bytes<2>(block + 2 + j % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int code = nibble_of(q, i, j / 16);
      out[i] = d * (kFormat == q4_0 ? static_cast<float>(code - 8) : books.codes[code]);
    }
  } else if constexpr (kFormat == q4_1) {
    const float d = half_at(block), m = half_at(block + 2);
    const uint64_t q = eight_bytes<4>(block + 4 + j % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = d * static_cast<float>(nibble_of(q, i, j / 16)) + m;
  } else if constexpr (kFormat == q5_0) {
    const float d = half_at(block);
    const int fifth = block[2 + j / 8];
    const uint64_t q = eight_bytes<2>(block + 6 + j % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = d * static_cast<float>((nibble_of(q, i, j / 16) | (fifth >> i & 1) << 4) - 16);
  } else if constexpr (kFormat == q5_1) {
    const float d = half_at(block), m = half_at(block + 2);
    const int fifth = block[4 + j / 8];
    const uint64_t q = eight_bytes<8>(block + 8 + j % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = d * static_cast<float>(nibble_of(q, i, j / 16) | (fifth >> i & 1) << 4) + m;
  } else if constexpr (kFormat == q2_k) {
    const int sub = j / 16, shift = sub % 8 / 2 * 2;
    const float scale = half_at(block + 80) * static_cast<float>(block[sub] & 15);
    const float min = half_at(block + 82) * static_cast<float>(block[sub] >> 4);
    const uint64_t q = eight_bytes<4>(block + 16 + sub / 8 * 32 + j % 32);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = scale * static_cast<float>(byte_of(q, i) >> shift & 3) - min;
  } else if constexpr (kFormat == q3_k) {
    const int sub = j / 16, shift = sub % 8 / 2 * 2;
    const float scale = half_at(block + 108) * static_cast<float>(q3_k_scale(block + 96, sub));
    const uint64_t third = eight_bytes<2>(block + j % 32);
    const uint64_t q = eight_bytes<2>(block + 32 + sub / 8 * 32 + j % 32);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int below = (byte_of(third, i) >> (sub / 2) & 1) != 0 ? 0 : 4;
      out[i] = scale * static_cast<float>((byte_of(q, i) >> shift & 3) - below);
    }
  } else if constexpr (kFormat == q4_k || kFormat == q5_k) {
    const int sub = j / 32;
    int scales, mins;
    scale_and_min(block + 4, sub, scales, mins);
    const float scale = half_at(block) * static_cast<float>(scales);
    const float min = half_at(block + 2) * static_cast<float>(mins);
    const uint64_t q = eight_bytes<8>(block + (kFormat == q4_k ? 16 : 48) + sub / 2 * 32 + j % 32);
    uint64_t fifth = 0;
    if constexpr (kFormat == q5_k) fifth = eight_bytes<8>(block + 16 + j % 32);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int code = nibble_of(q, i, sub % 2) | (byte_of(fifth, i) >> sub & 1) << 4;
      out[i] = scale * static_cast<float>(code) - min;
    }
  } else if constexpr (kFormat == q6_k) {
    const int run = j / 32;
    const auto* const scales = reinterpret_cast<const int8_t*>(block + 192);
    const float scale = half_at(block + 208) * static_cast<float>(scales[j / 16]);
    const uint64_t low = eight_bytes<2>(block + run / 4 * 64 + run % 2 * 32 + j % 32);
    const uint64_t high = eight_bytes<2>(block + 128 + run / 4 * 32 + j % 32);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int code = nibble_of(low, i, run % 4 / 2) | (byte_of(high, i) >> (run % 4 * 2) & 3) << 4;
      out[i] = scale * static_cast<float>(code - 32);
    }
  } else {
    static_assert(kFormat == iq4_xs);
    const int sub = j / 32;
    const float scale = half_at(block) * static_cast<float>(iq4_xs_scale(block, sub));
    const uint64_t q = eight_bytes<8>(block + 8 + sub * 16 + j % 16);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = scale * books.codes[nibble_of(q, i, j / 16 % 2)];
  }
}

// ---- any format

/// Element of a dense format, of 4-bit codes or of int8.
template <DeviceFormat kFormat>
LOWRANK_DEVICE float decode_one(const DeviceWeight& w, const Codebooks& books, int64_t row, int64_t column) {
  using enum DeviceFormat;
  const int64_t at = row * w.ld + column;
  if constexpr (kFormat == f32) {
    return static_cast<const float*>(w.data)[at];
  } else if constexpr (kFormat == bf16) {
    return to_float(static_cast<const __nv_bfloat16*>(w.data)[at]);
  } else if constexpr (kFormat == f16) {
    return to_float(static_cast<const __half*>(w.data)[at]);
  } else if constexpr (kFormat == int8) {
    const float scaled = static_cast<float>(static_cast<const int8_t*>(w.data)[at]) * w.absmax[row];
    return scaled * 7.874015718698502e-3f;
  } else {
    return four_bit_element(w, books, row * w.cols + column);
  }
}

/// Elements from `column` on, a multiple of 8, of a row as it is stored; 0 where the row has none.
template <DeviceFormat kFormat>
LOWRANK_DEVICE void decode_eight(const DeviceWeight& w, const Codebooks& books, int64_t row, int64_t column,
                                 float (&out)[8]) {
  using enum DeviceFormat;
  if constexpr (is_ggml(kFormat)) {
    constexpr BlockShape kShape = shape_of(kFormat);
    const uint8_t* const block = static_cast<const uint8_t*>(w.data) +
                                 (row * (w.cols / kShape.elements) + column / kShape.elements) * kShape.bytes;
    decode_block<kFormat>(block, books, static_cast<int>(column % kShape.elements), out);
    return;
  }
  const int64_t left = w.cols - column;
  if constexpr (is_four_bit(kFormat)) {
    const int64_t flat = row * w.cols + column;
    if (left >= 8 && flat % 8 == 0) {
      const int i = static_cast<int>(flat % 64);
      const uint64_t q = eight_bytes<8>(static_cast<const uint8_t*>(w.data) + flat / 64 * 32 + i % 32);
      const float scale = scale_of_block(w, books, flat / 64);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[j] = books.codes[nibble_of(q, j, i / 32)] * scale;
      return;
    }
  } else if constexpr (kFormat == int8) {
    const auto* const from = static_cast<const uint8_t*>(w.data) + row * w.ld + column;
    if (left >= 8 && reinterpret_cast<uint64_t>(from) % 8 == 0) {
      const uint64_t q = eight_bytes<8>(from);
      const float absmax = w.absmax[row];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float scaled = static_cast<float>(static_cast<int8_t>(byte_of(q, j))) * absmax;
        out[j] = scaled * 7.874015718698502e-3f;
      }
      return;
    }
  } else if constexpr (kFormat == f32) {
    const auto* const from = static_cast<const float*>(w.data) + row * w.ld + column;
    if (left >= 8 && aligned16(from)) {
      const Pack<float> a = load16(from), b = load16(from + 4);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        out[j] = a.at[j];
        out[j + 4] = b.at[j];
      }
      return;
    }
  } else {
    using T = typename Pick<kFormat == bf16, __nv_bfloat16, __half>::Type;
    const T* const from = static_cast<const T*>(w.data) + row * w.ld + column;
    if (left >= 8 && aligned16(from)) {
      const Pack<T> a = load16(from);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[j] = to_float(a.at[j]);
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) out[j] = j < left ? decode_one<kFormat>(w, books, row, column + j) : 0;
}

// ---- stores

/// Stores the first `count` of eight numbers, at once where they are eight at a fitting address.
LOWRANK_DEVICE void store_eight(float* to, const float (&v)[8], int64_t count) {
  if (count >= 8 && aligned16(to)) {
    store16(to, Pack<float>{{v[0], v[1], v[2], v[3]}});
    store16(to + 4, Pack<float>{{v[4], v[5], v[6], v[7]}});
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i] = v[i];
}
LOWRANK_DEVICE void store_eight(__nv_bfloat16* to, const float (&v)[8], int64_t count) {
  if (count >= 8 && aligned16(to)) {
    Pack<uint32_t> packed;
#pragma unroll
    for (int i = 0; i < 4; ++i) packed.at[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
    store16(reinterpret_cast<uint32_t*>(to), packed);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i] = __float2bfloat16_rn(v[i]);
}

}  // namespace
}  // namespace lowrank::cuda
