#include <algorithm>

#include "backends/cpu/ops_common.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kColumns = 64;

/// Threads take columns, so that each element's sum over the rows has one order.
template <class Body>
void for_columns(Pool& pool, int64_t cols, Body&& body) {
  pool.for_range((cols + kColumns - 1) / kColumns, 1,
                 [&](int64_t first, int64_t last) { body(first * kColumns, std::min(last * kColumns, cols)); });
}

/// Calls body with a function that reads elements of a row as fp32.
template <class Body>
void with_rows(const Matrix& matrix, Body&& body) {
  if (matrix.dtype == DType::bf16) {
    body([&](int64_t row) {
      const uint16_t* const at = row_as<uint16_t>(matrix, row);
      return [at](int64_t column) { return f32_from_bf16(at[column]); };
    });
  } else {
    body([&](int64_t row) {
      const float* const at = row_as<float>(matrix, row);
      return [at](int64_t column) { return at[column]; };
    });
  }
}

}  // namespace

void bias_gradient(Pool& pool, int64_t rows, int64_t cols, const Matrix& dy, float* db) {
  with_rows(dy, [&](auto&& row_of) {
    for_columns(pool, cols, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < rows; ++r) {
        const auto gradient = row_of(r);
        for (int64_t c = begin; c < end; ++c) db[c] += gradient(c);
      }
    });
  });
}

void embedding_gradient(Pool& pool, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& dy, float* dtable) {
  with_rows(dy, [&](auto&& row_of) {
    for_columns(pool, cols, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < tokens; ++t) {
        const auto gradient = row_of(t);
        float* const row = dtable + int64_t{ids[t]} * cols;
        for (int64_t c = begin; c < end; ++c) row[c] += gradient(c);
      }
    });
  });
}

}  // namespace lowrank::cpu
