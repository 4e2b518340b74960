// Tensors for the tests of the CPU operators: random values, padded rows whose padding must survive, and conversions,
// so that a test states values in double and a kernel sees the bytes it would see in a run.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "backends/cpu/device.h"
#include "check.h"

namespace lowrank::test {

/// Deterministic values, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> 33) ^ static_cast<uint32_t>(state_ >> 60);
  }
  double uniform() { return (bits() + 0.5) / 4294967296.0 * 2.0; }  // (0, 1): the generator yields 31 bits
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

 private:
  uint64_t state_;
};

/// A row-major matrix with three spare elements after every row.
class Tensor {
 public:
  Tensor(DType dtype, int64_t rows, int64_t cols, int64_t spare = 3)
      : dtype_(dtype),
        rows_(rows),
        cols_(cols),
        ld_(cols + spare),
        bytes_(static_cast<size_t>((rows * ld_ + 16) * size_of(dtype)), std::byte{0x3d}) {}
  Tensor(DType dtype, int64_t rows, int64_t cols, Random& random, double scale = 1.0) : Tensor(dtype, rows, cols) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) set(row, col, random.normal() * scale);
    }
  }

  Matrix at() { return {cpu::address_of(bytes_.data()), dtype_, ld_}; }
  template <class T>
  T* data() {
    return reinterpret_cast<T*>(bytes_.data());
  }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  double get(int64_t row, int64_t col) const {
    const int64_t at = row * ld_ + col;
    if (dtype_ == DType::f32) return reinterpret_cast<const float*>(bytes_.data())[at];
    const uint16_t half = reinterpret_cast<const uint16_t*>(bytes_.data())[at];
    return dtype_ == DType::bf16 ? f32_from_bf16(half) : f32_from_f16(half);
  }
  void set(int64_t row, int64_t col, double value) {
    const int64_t at = row * ld_ + col;
    if (dtype_ == DType::f32) {
      reinterpret_cast<float*>(bytes_.data())[at] = static_cast<float>(value);
    } else {
      reinterpret_cast<uint16_t*>(bytes_.data())[at] = bf16_from_f32(static_cast<float>(value));
    }
  }
  std::vector<double> values() const {
    std::vector<double> result;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t col = 0; col < cols_; ++col) result.push_back(get(row, col));
    }
    return result;
  }
  /// True if nothing was written between and after the rows.
  bool spare_untouched() const {
    const int64_t size = size_of(dtype_);
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t at = (row * ld_ + cols_) * size; at < (row + 1) * ld_ * size; ++at) {
        if (bytes_[static_cast<size_t>(at)] != std::byte{0x3d}) return false;
      }
    }
    for (size_t at = static_cast<size_t>(rows_ * ld_ * size); at < bytes_.size(); ++at) {
      if (bytes_[at] != std::byte{0x3d}) return false;
    }
    return true;
  }
  bool operator==(const Tensor& other) const { return bytes_ == other.bytes_; }

 private:
  DType dtype_;
  int64_t rows_, cols_, ld_;
  std::vector<std::byte> bytes_;
};

/// A workspace of exactly the announced size, full of NaN, with a guard behind it.
class Workspace {
 public:
  explicit Workspace(int64_t bytes) : bytes_(bytes), block_(static_cast<size_t>(bytes + 128), std::byte{0xff}) {
    const auto address = reinterpret_cast<uintptr_t>(block_.data());
    start_ = block_.data() + (64 - address % 64) % 64;
    std::memset(start_ + bytes, 0x5a, 64);
  }
  std::byte* data() { return start_; }
  bool guard_untouched() const {
    for (int64_t i = 0; i < 64; ++i) {
      if (start_[bytes_ + i] != std::byte{0x5a}) return false;
    }
    return true;
  }

 private:
  int64_t bytes_;
  std::vector<std::byte> block_;
  std::byte* start_;
};

/// Calls body(level) for every level of this machine.
template <class Body>
void for_levels(Body&& body) {
  for (const cpu::Level level : cpu::kLevels) {
    if (cpu::available(level)) body(level);
  }
}

/// Weights that lie elsewhere, as a model has them.
class Views final : public WeightStore {
 public:
  Factor add(const WeightView& view) {
    views_.push_back(view);
    return {view.rows, view.cols, count() - 1};
  }
  void expect_loaded() const override {}
  const void* model() const override { return this; }
  int count() const override { return static_cast<int>(views_.size()); }
  WeightView view(int weight) const override { return views_[static_cast<size_t>(weight)]; }
  int64_t rows_at_once(int, int64_t rows) const override { return rows; }
  std::unique_ptr<Hold> hold(const WeightRows&) const override { return nullptr; }
  int64_t gathered_at_once(int) const override { return 0; }
  std::unique_ptr<Hold> gather(int, std::span<const int32_t>) const override { return nullptr; }

 private:
  std::vector<WeightView> views_;
};

inline constexpr DType kOperandTypes[] = {DType::f32, DType::bf16};

/// Runs a kernel at a level, with a workspace of just the size that it asks for.
inline void run(cpu::Level level, Pool& pool, const Kernel& kernel, const Views& weights = {}) {
  const cpu::CpuSizes sizes(pool.threads());
  cpu::CpuDevice device(pool, cpu::kernels(level), sizes);
  const auto placed = device.place(weights);
  device.use(placed.get());
  Workspace room(sizes.workspace(kernel));
  device.launch(kernel, cpu::address_of(room.data()));
  CHECK(room.guard_untouched());
}
template <class T>
Ptr<T> ptr(std::vector<T>& values) {
  return cpu::address_of(values.data());
}
template <class T>
Ptr<T> ptr(const std::vector<T>& values) {
  return cpu::address_of(values.data());
}

}  // namespace lowrank::test
