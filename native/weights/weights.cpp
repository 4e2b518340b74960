#include "weights/weights.h"

#include "core/error.h"
#include "quant/four_bit.h"

namespace lowrank {
namespace {

bool is_four_bit(StorageFormat format) { return is_quantized(format) && format != StorageFormat::int8; }

int64_t element_bytes(StorageFormat format) {
  return format == StorageFormat::f32 ? 4 : format == StorageFormat::int8 ? 1 : 2;
}

WeightFormat kernel_format(StorageFormat format) {
  if (is_blocks(format)) return WeightFormat::ggml;
  switch (format) {
    case StorageFormat::f32:
      return WeightFormat::f32;
    case StorageFormat::bf16:
      return WeightFormat::bf16;
    case StorageFormat::f16:
      return WeightFormat::f16;
    case StorageFormat::nf4:
    case StorageFormat::nf4_double:
    case StorageFormat::fp4:
    case StorageFormat::fp4_double:
      return WeightFormat::four_bit;
    case StorageFormat::int8:
      return WeightFormat::int8;
    default:
      break;
  }
  fail("INTERNAL", "unknown storage format ", static_cast<int>(format));
}

}  // namespace

int64_t weight_bytes(StorageFormat format, int64_t rows, int64_t cols) {
  if (is_blocks(format)) return rows * layout_of(ggml_of(format)).row_bytes(cols);
  return is_four_bit(format) ? code_bytes(rows * cols) : rows * cols * element_bytes(format);
}

int64_t row_offset(StorageFormat format, int64_t row, int64_t cols) {
  return is_four_bit(format) ? row * cols / kCodeBlock * (kCodeBlock / 2) : weight_bytes(format, row, cols);
}

int64_t constants_bytes(StorageFormat format, int64_t rows, int64_t cols) {
  const int64_t blocks = code_blocks(rows * cols);
  if (format == StorageFormat::int8) return rows * 4;
  if (is_double(format)) return nested_blocks(blocks) * 4 + blocks;
  return is_four_bit(format) ? blocks * 4 : 0;
}

Weight::Weight(StorageFormat format, int64_t rows, int64_t cols)
    : format_(format),
      rows_(rows),
      cols_(cols),
      elements_(Category::weights, weight_bytes(format, rows, cols)),
      constants_(Category::quantization_constants, constants_bytes(format, rows, cols)) {}

Weight::Weight(StorageFormat format, int64_t rows, int64_t cols, const WeightBytes& bytes)
    : format_(format),
      rows_(rows),
      cols_(cols),
      elements_(bytes.elements, weight_bytes(format, rows, cols), bytes.owner),
      constants_(bytes.constants != nullptr
                     ? Block(bytes.constants, constants_bytes(format, rows, cols), bytes.owner)
                     : Block(Category::quantization_constants, constants_bytes(format, rows, cols))),
      absmax_offset_(bytes.absmax_offset),
      head_rows_(bytes.head_rows) {}

float* Weight::absmax() const {
  return is_quantized(format_) && !is_double(format_) ? constants_.data<float>() : nullptr;
}

float* Weight::nested_absmax() const { return is_double(format_) ? constants_.data<float>() : nullptr; }

uint8_t* Weight::absmax_codes() const {
  if (!is_double(format_)) return nullptr;
  return constants_.data<uint8_t>() + nested_blocks(code_blocks(rows_ * cols_)) * 4;
}

WeightView Weight::view() const {
  WeightView view;
  view.format = kernel_format(format_);
  view.rows = rows_;
  view.cols = cols_;
  view.data = elements_.data();
  view.ld = cols_;
  view.values = four_bit_of(format_) == FourBit::fp4 ? kFp4Values : kNf4Values;
  view.absmax = absmax();
  view.absmax_codes = absmax_codes();
  view.nested_absmax = nested_absmax();
  view.absmax_offset = absmax_offset_;
  if (is_blocks(format_)) view.ggml = ggml_of(format_);
  view.head_rows = head_rows_;
  return view;
}

std::string mebibytes(int64_t bytes) {
  const int64_t tenths = (bytes * 10 + (int64_t{1} << 20) - 1) >> 20;  // rounded up: what is named must work
  return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + "MiB";
}

}  // namespace lowrank
