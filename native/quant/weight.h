// A weight matrix as seen by kernels: [rows = out_features, cols = in_features], in one of the storage formats. Views
// own no memory. Formats are decoded while kernels pack operands; quantized weights are never stored densely.
#pragma once

#include <cstdint>

#include "quant/ggml.h"

namespace lowrank {

enum class WeightFormat : uint8_t { f32, bf16, f16, four_bit, int8, ggml };

constexpr const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return "f32";
    case WeightFormat::bf16:
      return "bf16";
    case WeightFormat::f16:
      return "f16";
    case WeightFormat::four_bit:
      return "four_bit";
    case WeightFormat::int8:
      return "int8";
    case WeightFormat::ggml:
      return "ggml";
  }
  return "?";
}

inline constexpr int64_t kCodeBlock = 64;     // weights per absmax
inline constexpr int64_t kNestedBlock = 256;  // absmax codes per nested absmax

/// Values of the 4-bit codes: the quantiles of NF4 (QLoRA, arXiv 2305.14314, appendix E), or FP4's floating-point
/// numbers with a sign, two exponent bits, and one mantissa bit, in the order and scale of bitsandbytes.
enum class FourBit : uint8_t { nf4, fp4 };
extern const float kNf4Values[16];
extern const float kFp4Values[16];
constexpr uint8_t zero_code(FourBit type) { return type == FourBit::nf4 ? 7 : 0; }

/// An int8 code q in a row with largest magnitude `absmax` has the value (q * absmax) * kInt8Step, in fp32; the step is
/// bitsandbytes' constant for 1 / 127.
inline constexpr float kInt8Step = 7.874015718698502e-3f;

/// The signed dynamic 8-bit map of bitsandbytes, used for double quantization and optimizer state; 256 ascending
/// values.
extern const float kDynamicMap[256];
/// The unsigned one, for nonnegative values.
extern const float kUnsignedDynamicMap[256];

/// Position of row `row` of a weight in a GGUF file of the llama architecture, whose heads have `head_rows` rows of
/// queries or keys: rows from the first and second half of each head alternate.
constexpr int64_t stored_row(int64_t row, int64_t head_rows) {
  const int64_t in_head = row % head_rows, half = head_rows / 2;
  return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

struct WeightView {
  WeightFormat format = WeightFormat::f32;
  int64_t rows = 0;
  int64_t cols = 0;

  // f32, bf16, f16: row-major elements, `ld` elements from row to row (ld >= cols).
  // int8: the same with one code an element and absmax[row].
  // four_bit: codes of the flattened matrix in blocks of 64 elements, 32 bytes a block (the last block is padded with
  // the code of 0.0). Inside a block byte i holds element i in its low nibble and element i + 32 in its high nibble: a
  // lossless reordering of the bitsandbytes bytes in which a zero-extension yields elements in order.
  // Blocks follow the flat order, so they stay inside a row exactly when cols is a multiple of 64.
  // ggml: rows of whole blocks as they are in GGUF files, at any alignment.
  const void* data = nullptr;
  int64_t ld = 0;

  // four_bit only: the values of the sixteen codes.
  const float* values = kNf4Values;
  // four_bit: block b scales by absmax[b], or under double quantization by
  // kDynamicMap[absmax_codes[b]] * nested_absmax[(b + nested_skip) / 256] + absmax_offset (evaluated in fp32, product
  // rounded first).
  const float* absmax = nullptr;
  const uint8_t* absmax_codes = nullptr;
  const float* nested_absmax = nullptr;
  float absmax_offset = 0;
  int64_t nested_skip = 0;  // blocks of the first nested block that precede the view

  // ggml only: the block format, and whether rows are in the order of GGUF files of the llama architecture: within
  // every `head_rows` rows (0: in order), rows from the first and second half alternate.
  GgmlType ggml = GgmlType::q8_0;
  int64_t head_rows = 0;

  /// ggml: start of a row's blocks.
  const uint8_t* block_row(int64_t row) const {
    if (head_rows != 0) row = stored_row(row, head_rows);
    return static_cast<const uint8_t*>(data) + row * layout_of(ggml).row_bytes(cols);
  }

  float scale_of_block(int64_t block) const {
    if (absmax != nullptr) return absmax[block];
    const float scaled = kDynamicMap[absmax_codes[block]] * nested_absmax[(block + nested_skip) / kNestedBlock];
    return scaled + absmax_offset;
  }
};

/// Decodes elements [begin, begin + count) of row `row` to fp32; any format, any alignment. The reference decoder.
void decode_row(const WeightView& weight, int64_t row, int64_t begin, int64_t count, float* out);

/// Rows [begin, begin + count). With 4-bit codes they must start at a block boundary, as every 64th row does; in a file
/// with reordered rows, at the first row.
WeightView rows_of(const WeightView& weight, int64_t begin, int64_t count);

}  // namespace lowrank
