// Random GGML blocks whose numbers are finite and near 1, for tests.
#pragma once

#include <random>
#include <vector>

#include "core/dtype.h"
#include "quant/ggml.h"

namespace lowrank::test {

/// Blocks of `count` elements: random bytes, with positive and negative 16-bit scales between a 64th and an 8th.
inline std::vector<uint8_t> random_blocks(GgmlType type, int64_t count, std::mt19937& random) {
  const GgmlLayout& layout = layout_of(type);
  std::vector<uint8_t> bytes(static_cast<size_t>(layout.row_bytes(count)));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  std::uniform_real_distribution<float> scale(1.0f / 64, 1.0f / 8);
  const auto set_half = [&](int64_t at) {
    const uint16_t half = f16_from_f32((random() & 1) != 0 ? scale(random) : -scale(random));
    bytes[static_cast<size_t>(at)] = static_cast<uint8_t>(half);
    bytes[static_cast<size_t>(at + 1)] = static_cast<uint8_t>(half >> 8);
  };
  for (int64_t block = 0; block < static_cast<int64_t>(bytes.size()); block += layout.bytes) {
    switch (type) {
      case GgmlType::q2_k:
        set_half(block + 80);
        set_half(block + 82);
        break;
      case GgmlType::q3_k:
        set_half(block + 108);
        break;
      case GgmlType::q6_k:
        set_half(block + 208);
        break;
      case GgmlType::q4_1:
      case GgmlType::q5_1:
      case GgmlType::q4_k:
      case GgmlType::q5_k:
        set_half(block);
        set_half(block + 2);
        break;
      default:
        set_half(block);
    }
  }
  return bytes;
}

}  // namespace lowrank::test
