// The memory that a kernel declares it accesses, used to count the bytes it moves, and verified by
// tests.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/ptr.h"

namespace lowrank {

/// Row-major [rows, cols]; `ld` is the row stride in elements.
struct Matrix {
  Ptr<std::byte> data;
  DType dtype = DType::f32;
  int64_t ld = 0;

  Matrix columns(int64_t first) const { return {data + first * size_of(dtype), dtype, ld}; }
  Matrix rows(int64_t first) const { return columns(first * ld); }
};
inline Matrix f32_matrix(Ptr<float> at, int64_t ld) { return {at.as<std::byte>(), DType::f32, ld}; }

/// Right-hand rows of a product: a base weight, in whatever format the device stores it, or fp32
/// values.
struct Factor {
  int64_t rows = 0, cols = 0;
  int weight = -1;        // index in the graph
  int64_t first = 0;      // first row of the weight
  Ptr<float> dense = {};  // if `weight` is -1
  int64_t ld = 0;

  Factor slice(int64_t begin, int64_t count) const {
    return {count, cols, weight, first + begin, dense + begin * ld, ld};
  }
};

enum class Access : uint8_t {
  read,
  write,  // completely, ignoring previous contents
  add,    // reads, and writes the modified values
  spend,  // reads, and leaves unspecified contents
  maybe,  // reads in rare cases
};

/// How many times the accessed data moves from or to memory.
constexpr int64_t times(Access access) { return access == Access::maybe ? 0 : access == Access::add ? 2 : 1; }

/// Rows or columns selected by index, `count` of them; null: all.
struct Picked {
  Ptr<int32_t> ids = {};
  int64_t count = 0;
  bool columns = false;
};

/// Multiply-adds of a product of [rows, inner] and [inner, cols].
inline double product_adds(int64_t rows, int64_t inner, int64_t cols) {
  return static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(cols);
}

struct Region {
  Access access = Access::read;
  Matrix at;
  int64_t rows = 0, cols = 0;
  Picked picked = {};

  /// Bytes moved from or to memory.
  int64_t bytes() const {
    const int64_t elements = !picked.ids ? rows * cols : picked.count * (picked.columns ? rows : cols);
    return times(access) * elements * size_of(at.dtype);
  }
};

/// Visits the operands of a kernel one by one, skipping null ones.
class Operands {
 public:
  virtual ~Operands() = default;

  void reads(const Matrix& at, int64_t rows, int64_t cols) { matrix(Access::read, at, rows, cols); }
  void writes(const Matrix& at, int64_t rows, int64_t cols) { matrix(Access::write, at, rows, cols); }
  void adds(const Matrix& at, int64_t rows, int64_t cols) { matrix(Access::add, at, rows, cols); }
  void spends(const Matrix& at, int64_t rows, int64_t cols) { matrix(Access::spend, at, rows, cols); }
  template <class T>
  void reads(Ptr<T> at, int64_t count) {
    reads(vector(at), 1, count * kUnits<T>);
  }
  template <class T>
  void writes(Ptr<T> at, int64_t count) {
    writes(vector(at), 1, count * kUnits<T>);
  }
  template <class T>
  void adds(Ptr<T> at, int64_t count) {
    adds(vector(at), 1, count * kUnits<T>);
  }
  void reads(const Factor& rows) { factor(Access::read, rows); }
  void may_read(const Factor& rows) { factor(Access::maybe, rows); }
  void may_read(const Matrix& at, int64_t rows, int64_t cols) { matrix(Access::maybe, at, rows, cols); }

  // Selected rows [count, cols], or columns [rows, count].
  void reads_rows(const Matrix& at, Ptr<int32_t> ids, int64_t count, int64_t cols) {
    rows(Access::read, at, ids, count, cols);
  }
  void adds_rows(const Matrix& at, Ptr<int32_t> ids, int64_t count, int64_t cols) {
    rows(Access::add, at, ids, count, cols);
  }
  void reads_rows(const Factor& table, Ptr<int32_t> ids, int64_t count) {
    if (table.weight < 0)
      return reads_rows({table.dense.as<std::byte>(), DType::f32, table.ld}, ids, count, table.cols);
    reads(ids, count);
    weight(Access::read, table, {ids, count});
  }
  void reads_columns(const Matrix& at, Ptr<int32_t> ids, int64_t rows, int64_t count) {
    columns(Access::read, at, ids, rows, count);
  }
  void adds_columns(const Matrix& at, Ptr<int32_t> ids, int64_t rows, int64_t count) {
    columns(Access::add, at, ids, rows, count);
  }

 protected:
  virtual void memory(const Region& region) = 0;
  /// Rows of a base weight; all are read unless some are selected.
  virtual void weight(Access access, const Factor& rows, const Picked& picked) = 0;

 private:
  // For counting memory, a double equals two fp32 elements.
  template <class T>
  static constexpr int64_t kUnits = sizeof(T) == 8 ? 2 : 1;
  static Matrix vector(Ptr<float> at) { return {at.as<std::byte>(), DType::f32, 0}; }
  static Matrix vector(Ptr<double> at) { return {at.as<std::byte>(), DType::f32, 0}; }
  static Matrix vector(Ptr<int32_t> at) { return {at.as<std::byte>(), DType::i32, 0}; }
  static Matrix vector(Ptr<uint16_t> at) { return {at.as<std::byte>(), DType::bf16, 0}; }
  static Matrix vector(Ptr<uint8_t> at) { return {at.as<std::byte>(), DType::u8, 0}; }
  static Matrix vector(Ptr<std::byte> at) { return {at, DType::u8, 0}; }

  void matrix(Access access, const Matrix& at, int64_t rows, int64_t cols) {
    if (at.data && rows > 0 && cols > 0) memory({access, at, rows, cols});
  }
  void factor(Access access, const Factor& w) {
    if (w.weight >= 0) return weight(access, w, {});
    matrix(access, {w.dense.as<std::byte>(), DType::f32, w.ld}, w.rows, w.cols);
  }
  void rows(Access access, const Matrix& at, Ptr<int32_t> ids, int64_t count, int64_t cols) {
    if (!ids) return matrix(access, at, count, cols);
    reads(ids, count);
    if (at.data && count > 0 && cols > 0) memory({access, at, 0, cols, {ids, count}});
  }
  void columns(Access access, const Matrix& at, Ptr<int32_t> ids, int64_t rows, int64_t count) {
    reads(ids, count);
    if (at.data && count > 0 && rows > 0) memory({access, at, rows, 0, {ids, count, true}});
  }
};

}  // namespace lowrank
