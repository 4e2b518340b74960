// Block-wise 8-bit numbers with dynamic maps: each block of 256 is divided by its largest magnitude, and each element
// gets the closest entry of a map, the lower one if tied. Dettmers et al. 2021, arXiv 2110.02861; the maps are those of
// bitsandbytes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "quant/weight.h"

namespace lowrank {

inline constexpr int64_t kDynamicBlock = 256;

/// One array: a code per element, and the largest magnitude of each block.
struct DynamicCodes {
  uint8_t* codes = nullptr;  // [count]
  float* absmax = nullptr;   // [ceil(count / kDynamicBlock)]

  /// The array from element `first`, a multiple of kDynamicBlock.
  DynamicCodes from(int64_t first) const { return {codes + first, absmax + first / kDynamicBlock}; }
};

/// Finds codes without a search. The leading bits of a float select a bin that contains at most one boundary
/// between codes: a table has each bin's lowest code, and one comparison decides between that code and the
/// next.
class DynamicCoder {
 public:
  /// Codes of signed numbers. A negative number never gets the code of zero but that of the smallest negative number,
  /// so that a moment keeps its sign.
  static const DynamicCoder& with_sign();
  /// Codes of nonnegative numbers.
  static const DynamicCoder& without_sign();

  const float* map() const { return map_; }

  /// The code of x in [-1, 1] or [0, 1]; arbitrary for NaN.
  uint8_t code(float x) const {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const auto above = static_cast<int32_t>((bits & 0x7fffffffu) - kBeforeFirst);
    const uint32_t bin = std::min(static_cast<uint32_t>(std::max(above, 0)) >> kShift, kBins - 1);
    const uint8_t low = lowest_[(bits >> 31) * kBins + bin];
    return static_cast<uint8_t>(low + (x > borders_[low]));
  }

  // For code that finds several at once. Each bin covers 1/256 of a power of two, from 2^-23, which is below all
  // boundaries except those at zero, through 1; smaller values are in the first bin.
  static constexpr int kShift = 15;
  static constexpr uint32_t kBeforeFirst = ((127u - 23u) << 23) - (1u << kShift), kOneBits = 127u << 23;
  static constexpr uint32_t kBins = ((kOneBits - kBeforeFirst) >> kShift) + 1;
  /// The lowest code of each bin, with bins of negative numbers last. Each entry may be read as a word.
  const uint8_t* lowest() const { return lowest_; }
  /// Boundary between each code and the next; infinite after the last.
  const float* borders() const { return borders_; }

 private:
  DynamicCoder(const float* map, bool is_signed);

  const float* map_;
  float borders_[256];
  uint8_t lowest_[2 * kBins + 3];
};

/// Decodes the codes of one block.
void decode_block(const DynamicCoder& coder, const DynamicCodes& block, int64_t count, float* out);

/// Reciprocal scale of a block with largest magnitude `absmax`, which it stores. A magnitude too small for a finite
/// reciprocal is stored as 0.
inline float begin_block(const DynamicCodes& block, float absmax) {
  const bool empty = absmax < 0x1p-126f;
  *block.absmax = empty ? 0.0f : absmax;
  return empty ? 0.0f : 1.0f / absmax;
}

/// Encodes one block with largest magnitude `absmax`.
void encode_block(const DynamicCoder& coder, const float* values, float absmax, int64_t count,
                  const DynamicCodes& block);

}  // namespace lowrank
