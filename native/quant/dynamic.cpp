#include "quant/dynamic.h"

#include <algorithm>
#include <iterator>
#include <limits>

namespace lowrank {

DynamicCoder::DynamicCoder(const float* map, bool is_signed) : map_(map) {
  for (int i = 0; i < 255; ++i) borders_[i] = (map[i] + map[i + 1]) * 0.5f;
  borders_[255] = std::numeric_limits<float>::infinity();
  // Minus zero is still zero.
  if (is_signed) borders_[126] = -std::numeric_limits<float>::denorm_min();
  const auto code_of = [&](float x) {
    return static_cast<uint8_t>(std::lower_bound(borders_, borders_ + 255, x) - borders_);
  };
  std::fill(std::begin(lowest_), std::end(lowest_), uint8_t{0});
  for (uint32_t bin = 0; bin < kBins; ++bin) {
    const uint32_t begin = bin == 0 ? 0 : kBeforeFirst + (bin << kShift);
    const uint32_t end = kBeforeFirst + ((bin + 1) << kShift);
    lowest_[bin] = code_of(std::bit_cast<float>(begin));
    lowest_[kBins + bin] = code_of(-std::bit_cast<float>(std::min(end - 1, kOneBits)));
  }
}

const DynamicCoder& DynamicCoder::with_sign() {
  static const DynamicCoder coder(kDynamicMap, true);
  return coder;
}

const DynamicCoder& DynamicCoder::without_sign() {
  static const DynamicCoder coder(kUnsignedDynamicMap, false);
  return coder;
}

void decode_block(const DynamicCoder& coder, const DynamicCodes& block, int64_t count, float* out) {
  const float* const map = coder.map();
  for (int64_t i = 0; i < count; ++i) out[i] = map[block.codes[i]] * *block.absmax;
}

void encode_block(const DynamicCoder& coder, const float* values, float absmax, int64_t count,
                  const DynamicCodes& block) {
  const float inverse = begin_block(block, absmax);
  for (int64_t i = 0; i < count; ++i) block.codes[i] = coder.code(std::clamp(values[i] * inverse, -1.0f, 1.0f));
}

}  // namespace lowrank
