// Elements and rows of the reference kernels.
#pragma once

#include "backends/cpu/ops_common.h"
#include "backends/cpu/table.h"
#include "core/math.h"

namespace lowrank::cpu {

inline float get(const Matrix& matrix, int64_t row, int64_t col) {
  return load_element(host(matrix.rows(row).data), matrix.dtype, col);
}
/// The same as a double, whose products are not rounded to fp32.
inline double element(const Matrix& matrix, int64_t row, int64_t col) { return get(matrix, row, col); }
inline void set(const Matrix& matrix, int64_t row, int64_t col, double value) {
  store_element(host(matrix.rows(row).data), matrix.dtype, col, static_cast<float>(value));
}

inline double sigmoid(double x) { return 1 / (1 + math::exp(-x)); }

/// body(row) for all rows, in parallel.
template <class Body>
void for_rows(const Cpu& cpu, int64_t rows, int64_t cols, Body&& body) {
  cpu.pool.for_range(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

/// body(first, last) for blocks of columns, in parallel, so that each column's sum over the rows has one order.
template <class Body>
void for_columns(const Cpu& cpu, int64_t cols, Body&& body) {
  constexpr int64_t kColumns = 64;
  cpu.pool.for_range((cols + kColumns - 1) / kColumns, 1, [&](int64_t first, int64_t last) {
    body(first * kColumns, last * kColumns < cols ? last * kColumns : cols);
  });
}

/// body(rows) with a function that gives those of a matrix, whose elements are read as fp32 by rows(row)(col).
template <class Body>
void with_rows(const Matrix& matrix, Body&& body) {
  if (matrix.dtype == DType::bf16) {
    body([&](int64_t row) {
      const uint16_t* const at = row_as<uint16_t>(matrix, row);
      return [at](int64_t col) { return f32_from_bf16(at[col]); };
    });
  } else {
    body([&](int64_t row) {
      const float* const at = row_as<float>(matrix, row);
      return [at](int64_t col) { return at[col]; };
    });
  }
}

}  // namespace lowrank::cpu
