// Converts 4-bit codes between bitsandbytes' packing and the order described in quant/weight.h.
#pragma once

#include <algorithm>

#include "quant/four_bit.h"

namespace lowrank {

/// Bytes of the codes of `count` weights: no padding.
inline int64_t packed_code_bytes(int64_t count) { return (count + 1) / 2; }

/// Reorders codes: byte j holds element 2j in its high nibble and 2j + 1 in its low one; an odd count ends with the
/// code of 0.0.
inline void pack_codes(const uint8_t* codes, int64_t count, uint8_t* packed) {
  for (int64_t first = 0; first < count; first += kCodeBlock, codes += kCodeBlock / 2) {
    uint8_t code[kCodeBlock];
    for (int i = 0; i < kCodeBlock / 2; ++i) {
      code[i] = codes[i] & 15;
      code[i + kCodeBlock / 2] = codes[i] >> 4;
    }
    const int64_t bytes = packed_code_bytes(std::min<int64_t>(kCodeBlock, count - first));
    for (int64_t j = 0; j < bytes; ++j)
      packed[first / 2 + j] = static_cast<uint8_t>((code[2 * j] << 4) | code[2 * j + 1]);
  }
}

/// The inverse; the last block is padded with `zero`, the code of 0.0.
inline void unpack_codes(const uint8_t* packed, int64_t count, uint8_t zero, uint8_t* codes) {
  for (int64_t first = 0; first < count; first += kCodeBlock, codes += kCodeBlock / 2) {
    uint8_t code[kCodeBlock];
    const int64_t present = std::min<int64_t>(kCodeBlock, count - first);
    for (int64_t i = 0; i < kCodeBlock; ++i) {
      const uint8_t pair = i < present ? packed[(first + i) / 2] : 0;
      code[i] = i >= present ? zero : static_cast<uint8_t>(i % 2 == 0 ? pair >> 4 : pair & 15);
    }
    for (int i = 0; i < kCodeBlock / 2; ++i) codes[i] = static_cast<uint8_t>(code[i] | (code[i + kCodeBlock / 2] << 4));
  }
}

}  // namespace lowrank
