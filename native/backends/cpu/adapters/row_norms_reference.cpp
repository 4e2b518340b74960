#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/reference.h"
#include "quant/row_norm.h"

namespace lowrank::cpu {
namespace {

constexpr double kCanceled = 0.01;  // of ||W_i||^2
constexpr double kSmallestSquare = 1e-30;

}  // namespace

void reference(const Cpu& cpu, const RowSquares& k) {
  const WeightView w = view(cpu, k.w);
  for_rows(cpu, w.rows, w.cols,
           [&](int64_t row) { host(k.out)[row] = adapted_row_square(w, row, nullptr, 0, nullptr, 0); });
}

void reference(const Cpu& cpu, const Gram& k) {
  const float* const a = host(k.a);
  double* const out = host(k.out);
  for_rows(cpu, k.rank, k.rank * k.cols, [&](int64_t i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t c = 0; c < k.cols; ++c) sum += double{a[i * k.ld + c]} * a[j * k.ld + c];
      out[i * k.rank + j] = out[j * k.rank + i] = sum;
    }
  });
}

void reference(const Cpu& cpu, const AdaptedRowNorms& k) {
  const WeightView w = view(cpu, k.w);
  const double *squares = host(k.squares), *gram = host(k.gram);
  const float* const products = host(k.products);
  for_rows(cpu, w.rows, k.rank * k.rank, [&](int64_t i) {
    const float* const b = host(k.b) + i * k.rank;
    double cross = 0, own = 0;
    for (int64_t j = 0; j < k.rank; ++j) {
      cross += double{b[j]} * products[j * w.rows + i];
      double sum = 0;
      for (int64_t c = 0; c < k.rank; ++c) sum += gram[j * k.rank + c] * b[c];
      own += b[j] * sum;
    }
    double square = squares[i] + 2 * cross + own;
    if (square < kCanceled * squares[i]) square = adapted_row_square(w, i, host(k.a), k.a_ld, b, k.rank);
    host(k.out)[i] = static_cast<float>(std::sqrt(std::max(square, kSmallestSquare)));
  });
}

void reference(const Cpu& cpu, const SecondMoment& k) {
  double* const moment = host(k.moment);
  cpu.pool.for_range(k.rank, 4, [&](int64_t begin, int64_t end) {
    std::vector<double> row(k.rank);
    for (int64_t t = 0; t < k.tokens; ++t) {
      const std::byte* const h = host(k.h.rows(t).data);
      for (int64_t j = 0; j < k.rank; ++j) row[j] = load_element(h, k.h.dtype, j);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < k.rank; ++j) moment[i * k.rank + j] += row[i] * row[j];
    }
  });
}
int64_t workspace(const SecondMoment&, int) { return 0; }

}  // namespace lowrank::cpu
