// Block-wise 8-bit numbers by the dynamic maps: each block of 256 is divided by its largest magnitude, and every number
// of it gets the nearest entry of a map, a tie the lower one.
// Dettmers et al. 2021, arXiv 2110.02861; the maps are those of bitsandbytes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "quant/weight.h"

namespace lowrank {

inline constexpr int64_t kDynamicBlock = 256;

/// Numbers of one array: a code each, and the largest magnitude of each block.
struct DynamicCodes {
  uint8_t* codes = nullptr;  // [count]
  float* absmax = nullptr;   // [ceil(count / kDynamicBlock)]

  /// From element `first` on, a multiple of kDynamicBlock.
  DynamicCodes from(int64_t first) const { return {codes + first, absmax + first / kDynamicBlock}; }
};

/// Finds codes without a search. The bits of a float, cut after a few of its mantissa, number bins that hold at most one
/// border between codes each: a table has the lowest code of each bin, and one comparison tells whether it is that or the
/// next.
class DynamicCoder {
 public:
  /// Codes of signed numbers. A negative one never gets the code of zero, but that of the smallest negative number:
  /// a moment keeps its sign.
  static const DynamicCoder& with_sign();
  /// Codes of numbers from 0.
  static const DynamicCoder& without_sign();

  const float* map() const { return map_; }

  /// The code of x, within [-1, 1] or [0, 1]; any code for what is no number.
  uint8_t code(float x) const {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const auto above = static_cast<int32_t>((bits & 0x7fffffffu) - kBeforeFirst);
    const uint32_t bin = std::min(static_cast<uint32_t>(std::max(above, 0)) >> kShift, kBins - 1);
    const uint8_t low = lowest_[(bits >> 31) * kBins + bin];
    return static_cast<uint8_t>(low + (x > borders_[low]));
  }

  // For code that finds several at once. Bins are 1/256 of a power of two each, from 2^-23, which is below all borders but
  // those at zero, up to and with 1; what is smaller is in the first.
  static constexpr int kShift = 15;
  static constexpr uint32_t kBeforeFirst = ((127u - 23u) << 23) - (1u << kShift), kOneBits = 127u << 23;
  static constexpr uint32_t kBins = ((kOneBits - kBeforeFirst) >> kShift) + 1;
  /// The lowest code of each bin, of negative numbers after those of positive ones. A word may be read at each.
  const uint8_t* lowest() const { return lowest_; }
  /// Between a code and the next; infinite after the last.
  const float* borders() const { return borders_; }

 private:
  DynamicCoder(const float* map, bool is_signed);

  const float* map_;
  float borders_[256];
  uint8_t lowest_[2 * kBins + 3];
};

/// Decodes the codes of one block.
void decode_block(const DynamicCoder& coder, const DynamicCodes& block, int64_t count, float* out);

/// Reciprocal scale of a block with the largest magnitude `absmax`, which it keeps. A magnitude too small for
/// its reciprocal to be finite counts as 0.
inline float begin_block(const DynamicCodes& block, float absmax) {
  const bool empty = absmax < 0x1p-126f;
  *block.absmax = empty ? 0.0f : absmax;
  return empty ? 0.0f : 1.0f / absmax;
}

/// Fills one block, whose largest magnitude is `absmax`.
void encode_block(const DynamicCoder& coder, const float* values, float absmax, int64_t count,
                  const DynamicCodes& block);

}  // namespace lowrank
