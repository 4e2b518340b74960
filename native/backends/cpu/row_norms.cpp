#include "backends/cpu/row_norms.h"

#include <algorithm>
#include <cmath>

#include "quant/row_norm.h"

namespace lowrank::cpu {
namespace {

constexpr double kCanceled = 0.01;  // of ||W_i||^2; see row_norms
constexpr double kSmallestSquare = 1e-30;

/// body(row) for all rows, split so that a piece is worth a trip to the counter.
template <class Body>
void for_rows(Pool& pool, int64_t rows, int64_t cols, Body&& body) {
  pool.for_range(rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(cols, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace

void row_squares(Pool& pool, const WeightView& w, double* out) {
  for_rows(pool, w.rows, w.cols, [&](int64_t row) { out[row] = adapted_row_square(w, row, nullptr, 0, nullptr, 0); });
}

void gram_of_rows(Pool& pool, const float* a, int64_t rank, int64_t cols, int64_t ld, double* out) {
  for_rows(pool, rank, rank * cols, [&](int64_t i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) sum += double{a[i * ld + c]} * a[j * ld + c];
      out[i * rank + j] = out[j * rank + i] = sum;
    }
  });
}

void row_norms(Pool& pool, const AdaptedRows& rows, float* out) {
  const int64_t rank = rows.rank, count = rows.w.rows;
  for_rows(pool, count, rank * rank, [&](int64_t i) {
    const float* const b = rows.b + i * rank;
    double cross = 0, own = 0;
    for (int64_t j = 0; j < rank; ++j) {
      cross += double{b[j]} * rows.products[j * count + i];
      double sum = 0;
      for (int64_t k = 0; k < rank; ++k) sum += rows.gram[j * rank + k] * b[k];
      own += b[j] * sum;
    }
    double square = rows.squares[i] + 2 * cross + own;
    if (square < kCanceled * rows.squares[i]) square = adapted_row_square(rows.w, i, rows.a, rows.a_ld, b, rank);
    out[i] = static_cast<float>(std::sqrt(std::max(square, kSmallestSquare)));
  });
}

}  // namespace lowrank::cpu
