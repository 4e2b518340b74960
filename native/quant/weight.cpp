#include "quant/weight.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "quant/half.h"

namespace lowrank {
namespace {

void decode_four_bit(const WeightView& weight, int64_t flat, int64_t count, float* out) {
  const auto* codes = static_cast<const uint8_t*>(weight.data);
  constexpr int64_t kHalf = kCodeBlock / 2;
  while (count > 0) {
    const int64_t block = flat / kCodeBlock;
    const int64_t begin = flat % kCodeBlock;
    const int64_t end = std::min(kCodeBlock, begin + count);
    const float scale = weight.scale_of_block(block);
    const uint8_t* bytes = codes + block * kHalf;
    for (int64_t i = begin; i < end; ++i) {
      const int code = i < kHalf ? bytes[i] & 15 : bytes[i - kHalf] >> 4;
      *out++ = weight.values[code] * scale;
    }
    flat += end - begin;
    count -= end - begin;
  }
}

void decode_int8(const int8_t* codes, float absmax, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(codes[i]) * absmax * kInt8Step;
}

void decode_ggml(const WeightView& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  const GgmlLayout& layout = layout_of(weight.ggml);
  const uint8_t* block = weight.block_row(row) + begin / layout.elements * layout.bytes;
  int64_t skipped = begin % layout.elements;
  while (count > 0) {
    if (skipped == 0 && count >= layout.elements) {
      const int64_t whole = count / layout.elements * layout.elements;
      layout.decode(block, whole, out);
      block += layout.row_bytes(whole);
      out += whole;
      count -= whole;
      continue;
    }
    float values[kGgmlSuperBlock];
    layout.decode(block, layout.elements, values);
    const int64_t taken = std::min(count, layout.elements - skipped);
    std::copy_n(values + skipped, taken, out);
    block += layout.bytes;
    out += taken;
    count -= taken;
    skipped = 0;
  }
}

}  // namespace

void decode_row(const WeightView& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  const int64_t first = row * weight.ld + begin;
  switch (weight.format) {
    case WeightFormat::f32:
      std::memcpy(out, static_cast<const float*>(weight.data) + first, static_cast<size_t>(count) * sizeof(float));
      return;
    case WeightFormat::bf16:
      decode_bf16(static_cast<const uint16_t*>(weight.data) + first, count, out);
      return;
    case WeightFormat::f16:
      decode_f16(static_cast<const uint16_t*>(weight.data) + first, count, out);
      return;
    case WeightFormat::four_bit:
      decode_four_bit(weight, row * weight.cols + begin, count, out);
      return;
    case WeightFormat::int8:
      decode_int8(static_cast<const int8_t*>(weight.data) + first, weight.absmax[row], count, out);
      return;
    case WeightFormat::ggml:
      decode_ggml(weight, row, begin, count, out);
      return;
  }
}

WeightView rows_of(const WeightView& weight, int64_t begin, int64_t count) {
  WeightView rows = weight;
  rows.rows = count;
  if (begin == 0) return rows;
  int64_t bytes = begin * weight.ld;
  switch (weight.format) {
    case WeightFormat::f32:
      bytes *= 4;
      break;
    case WeightFormat::bf16:
    case WeightFormat::f16:
      bytes *= 2;
      break;
    case WeightFormat::int8:
      rows.absmax += begin;
      break;
    case WeightFormat::four_bit: {
      const int64_t block = begin * weight.cols / kCodeBlock;
      if (begin * weight.cols % kCodeBlock != 0)
        fail("INTERNAL", "row ", begin, " of 4-bit codes does not start at a block");
      bytes = block * (kCodeBlock / 2);
      if (weight.absmax != nullptr) {
        rows.absmax += block;
        break;
      }
      rows.absmax_codes += block;
      rows.nested_absmax += (block + weight.nested_skip) / kNestedBlock;
      rows.nested_skip = (block + weight.nested_skip) % kNestedBlock;
      break;
    }
    case WeightFormat::ggml:
      if (weight.head_rows != 0) fail("INTERNAL", "a range of rows would split a head");
      bytes = begin * layout_of(weight.ggml).row_bytes(weight.cols);
      break;
  }
  rows.data = static_cast<const uint8_t*>(weight.data) + bytes;
  return rows;
}

}  // namespace lowrank
