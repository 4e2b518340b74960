// Matrices in a runner's memory, with spare elements after each row that no kernel may touch.
#pragma once

#include "backends/cpu/ops_support.h"
#include "backends/cuda/runner.h"
#include "kernels/operands.h"

namespace lowrank::cuda {

class Tensor {
 public:
  /// Full of NaN.
  Tensor(Runner& run, DType dtype, int64_t rows, int64_t cols, int64_t spare = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), ld_(cols + spare) {
    at_ = run.buffer<std::byte>(rows * ld_ * size_of(dtype));
  }
  /// Full of normal numbers.
  Tensor(Runner& run, DType dtype, int64_t rows, int64_t cols, test::Random& random, double scale = 1,
         int64_t spare = 0)
      : Tensor(run, dtype, rows, cols, spare) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < cols; ++col) set(row, col, random.normal() * scale);
  }

  DType dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  Matrix matrix() const { return {address_of(at_), dtype_, ld_}; }
  Ptr<float> floats() const { return address_of(at_).as<float>(); }
  std::byte* bytes() const { return at_; }

  double operator()(int64_t row, int64_t col) const {
    const int64_t at = row * ld_ + col;
    if (dtype_ == DType::f32) return reinterpret_cast<const float*>(at_)[at];
    const uint16_t half = reinterpret_cast<const uint16_t*>(at_)[at];
    return dtype_ == DType::bf16 ? f32_from_bf16(half) : f32_from_f16(half);
  }
  void set(int64_t row, int64_t col, double value) {
    const int64_t at = row * ld_ + col;
    const auto rounded = static_cast<float>(value);
    if (dtype_ == DType::f32) {
      reinterpret_cast<float*>(at_)[at] = rounded;
    } else {
      reinterpret_cast<uint16_t*>(at_)[at] = dtype_ == DType::bf16 ? bf16_from_f32(rounded) : f16_from_f32(rounded);
    }
  }
  /// True where the element is that number, but for the rounding of its type and of a few operations in fp32.
  /// @param scale magnitude that the rounding is of, where that is more than the number's
  bool near(int64_t row, int64_t col, double expected, double scale = 0) const {
    const double eps = dtype_ == DType::f32 ? 2e-6 : 0x1p-8 + 2e-6;
    return std::fabs((*this)(row, col) - expected) <= eps * std::fmax(std::fabs(expected), scale) + 1e-37;
  }
  /// True if the spare elements are as they were.
  bool spare_untouched() const {
    const int64_t size = size_of(dtype_);
    for (int64_t row = 0; row < rows_; ++row)
      for (int64_t i = (row * ld_ + cols_) * size; i < (row + 1) * ld_ * size; ++i)
        if (at_[i] != std::byte{0xff}) return false;
    return true;
  }

 private:
  DType dtype_;
  int64_t rows_, cols_, ld_;
  std::byte* at_;
};

}  // namespace lowrank::cuda
