#include "weights/quantizer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "quant/four_bit.h"
#include "quant/int8.h"

namespace lowrank {
namespace {

/// The first of the values that is not finite; the first of all is element `first` of the matrix.
Quantizer::Bad bad_of(const float* values, int64_t count, int64_t first) {
  const float* bad = std::find_if_not(values, values + count, [](float v) { return std::isfinite(v); });
  return {first + (bad - values), *bad};
}

}  // namespace

Quantizer::Quantizer(Pool& pool, Weight& weight, int64_t most_rows)
    : pool_(pool),
      weight_(weight),
      buffer_(Category::workspace, (kCodeBlock + most_rows * weight.cols()) * 4),
      absmax_(Category::workspace, is_double(weight.format()) ? code_blocks(weight.rows() * weight.cols()) * 4 : 0) {}

std::optional<Quantizer::Bad> Quantizer::take(int64_t count) {
  return weight_.format() == StorageFormat::int8 ? take_int8(count) : take_four_bit(count);
}

std::optional<Quantizer::Bad> Quantizer::take_int8(int64_t count) {
  const int64_t cols = weight_.cols(), first = taken_;
  auto* codes = static_cast<int8_t*>(weight_.data());
  std::atomic<bool> finite{true};
  pool_.for_range(count, std::max<int64_t>(1, kElementsAtATime / cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float absmax = quantize_int8(rows() + r * cols, cols, codes + (first + r) * cols);
      weight_.absmax()[first + r] = absmax;
      if (!std::isfinite(absmax)) finite = false;
    }
  });
  taken_ += count;
  if (finite) return std::nullopt;
  return bad_of(rows(), count * cols, first * cols);
}

std::optional<Quantizer::Bad> Quantizer::take_four_bit(int64_t count) {
  const float* stream = rows() - carried_;
  const int64_t begins = taken_ * weight_.cols() - carried_;  // the start of a block
  const int64_t elements = carried_ + count * weight_.cols();
  taken_ += count;
  const bool last = taken_ == weight_.rows();
  const int64_t blocks = last ? code_blocks(elements) : elements / kCodeBlock;
  const int64_t whole = std::min(elements, blocks * kCodeBlock);
  auto* codes = static_cast<uint8_t*>(weight_.data()) + begins / 2;
  float* absmax = (absmax_ ? absmax_.data<float>() : weight_.absmax()) + begins / kCodeBlock;
  std::atomic<bool> finite{true};
  pool_.for_range(blocks, kElementsAtATime / kCodeBlock, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * kCodeBlock;
    const int64_t bad = quantize_four_bit(four_bit_of(weight_.format()), stream + at,
                                          std::min(whole, end * kCodeBlock) - at, codes + at / 2, absmax + begin);
    if (bad >= 0) finite = false;
  });
  if (!finite) return bad_of(stream, whole, begins);
  carried_ = elements - whole;
  std::memmove(rows() - carried_, stream + whole, static_cast<size_t>(carried_) * sizeof(float));
  return std::nullopt;
}

void Quantizer::finish() {
  if (!absmax_) return;
  const int64_t blocks = code_blocks(weight_.rows() * weight_.cols());
  weight_.set_absmax_offset(
      quantize_absmax(absmax_.data<float>(), blocks, weight_.absmax_codes(), weight_.nested_absmax()));
}

}  // namespace lowrank
