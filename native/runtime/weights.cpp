#include "runtime/weights.h"

#include "core/error.h"
#include "quant/nf4.h"

namespace lowrank {
namespace {

bool is_nf4(StorageFormat format) { return format == StorageFormat::nf4 || format == StorageFormat::nf4_double; }

int64_t element_bytes(StorageFormat format) { return format == StorageFormat::f32 ? 4 : 2; }

WeightFormat kernel_format(StorageFormat format) {
  switch (format) {
    case StorageFormat::f32:
      return WeightFormat::f32;
    case StorageFormat::bf16:
      return WeightFormat::bf16;
    case StorageFormat::f16:
      return WeightFormat::f16;
    case StorageFormat::nf4:
    case StorageFormat::nf4_double:
      return WeightFormat::nf4;
  }
  fail("INTERNAL", "unknown storage format ", static_cast<int>(format));
}

}  // namespace

const char* name_of(StorageFormat format) {
  switch (format) {
    case StorageFormat::f32:
      return "f32";
    case StorageFormat::bf16:
      return "bf16";
    case StorageFormat::f16:
      return "f16";
    case StorageFormat::nf4:
      return "nf4";
    case StorageFormat::nf4_double:
      return "nf4_double";
  }
  return "?";
}

int64_t weight_bytes(StorageFormat format, int64_t rows, int64_t cols) {
  return is_nf4(format) ? nf4_code_bytes(rows * cols) : rows * cols * element_bytes(format);
}

int64_t constants_bytes(StorageFormat format, int64_t rows, int64_t cols) {
  const int64_t blocks = nf4_blocks(rows * cols);
  if (format == StorageFormat::nf4) return blocks * 4;
  if (format == StorageFormat::nf4_double) return nf4_nested_blocks(blocks) * 4 + blocks;
  return 0;
}

Weight::Weight(StorageFormat format, int64_t rows, int64_t cols)
    : format_(format),
      rows_(rows),
      cols_(cols),
      elements_(Category::weights, weight_bytes(format, rows, cols)),
      constants_(Category::quantization_constants, constants_bytes(format, rows, cols)) {}

float* Weight::absmax() const { return format_ == StorageFormat::nf4 ? constants_.data<float>() : nullptr; }

float* Weight::nested_absmax() const {
  return format_ == StorageFormat::nf4_double ? constants_.data<float>() : nullptr;
}

uint8_t* Weight::absmax_codes() const {
  if (format_ != StorageFormat::nf4_double) return nullptr;
  return constants_.data<uint8_t>() + nf4_nested_blocks(nf4_blocks(rows_ * cols_)) * 4;
}

WeightView Weight::view() const {
  WeightView view;
  view.format = kernel_format(format_);
  view.rows = rows_;
  view.cols = cols_;
  view.data = elements_.data();
  view.ld = cols_;
  view.absmax = absmax();
  view.absmax_codes = absmax_codes();
  view.nested_absmax = nested_absmax();
  view.absmax_offset = absmax_offset_;
  return view;
}

}  // namespace lowrank
