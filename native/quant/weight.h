// A weight matrix as kernels see it: [rows = out_features, cols = in_features], in one of the storage formats. Views
// own nothing. Formats are decoded inside the matrix kernels' packing; a dense copy of a quantised weight never exists.
#pragma once

#include <cstdint>

namespace lowrank {

enum class WeightFormat : uint8_t { f32, bf16, f16, nf4 };

constexpr const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return "f32";
    case WeightFormat::bf16:
      return "bf16";
    case WeightFormat::f16:
      return "f16";
    case WeightFormat::nf4:
      return "nf4";
  }
  return "?";
}

inline constexpr int64_t kNf4Block = 64;         // weights that share one absmax
inline constexpr int64_t kNf4NestedBlock = 256;  // absmax codes that share one nested absmax

/// The sixteen NF4 values (QLoRA, arXiv 2305.14314, appendix E).
extern const float kNf4Values[16];
/// The signed dynamic 8-bit map of bitsandbytes, used for double quantisation; 256 ascending values.
extern const float kDynamicMap[256];

struct WeightView {
  WeightFormat format = WeightFormat::f32;
  int64_t rows = 0;
  int64_t cols = 0;

  // f32, bf16, f16: row-major elements, `ld` elements from row to row (ld >= cols).
  // nf4: 4-bit codes of the flattened matrix in blocks of 64 elements, 32 bytes a block (the last block is padded with
  // the code of 0.0). Inside a block byte i holds element i in its low nibble and element i + 32 in its high nibble: a
  // lossless reordering of the bitsandbytes bytes in which a zero-extension yields elements in order.
  // Blocks follow the flat order, so they stay inside a row exactly when cols is a multiple of 64.
  const void* data = nullptr;
  int64_t ld = 0;

  // nf4 only; block b scales by absmax[b], or under double quantisation by
  // kDynamicMap[absmax_codes[b]] * nested_absmax[b / 256] + absmax_offset (evaluated in fp32, product rounded first).
  const float* absmax = nullptr;
  const uint8_t* absmax_codes = nullptr;
  const float* nested_absmax = nullptr;
  float absmax_offset = 0;

  float scale_of_block(int64_t block) const {
    if (absmax != nullptr) return absmax[block];
    const float scaled = kDynamicMap[absmax_codes[block]] * nested_absmax[block / kNf4NestedBlock];
    return scaled + absmax_offset;
  }
};

/// Decodes elements [begin, begin + count) of row `row` to fp32; any format, any alignment. The reference decoder.
void decode_row(const WeightView& weight, int64_t row, int64_t begin, int64_t count, float* out);

}  // namespace lowrank
