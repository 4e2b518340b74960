#include "kernels/adafactor.h"

#include <cmath>

#include "optimizer_cases.h"

namespace lowrank::test {

TEST("Adafactor moves a matrix by the means of its rows and columns") {
  constexpr int64_t kRows = 70, kCols = 130;
  const std::vector<float> g = numbers(kRows * kCols, 1), before = numbers(kRows * kCols, 2);
  const std::vector<float> after = made(before, [&](Ptr<float> at) {
    static std::vector<float> row, column;
    row.assign(kRows, 0.0f), column.assign(kCols, 0.0f);
    AdafactorSettings settings;
    settings.clip_threshold = 1e9;
    return Adafactor{settings,
                     0.1,
                     0,
                     1,
                     1,
                     kRows,
                     kCols,
                     cpu::address_of(g.data()),
                     cpu::address_of(row.data()),
                     cpu::address_of(column.data()),
                     {},
                     at};
  });
  std::vector<double> row(kRows), column(kCols);
  double all = 0;
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      const double square = double{g[i * kCols + j]} * g[i * kCols + j];
      row[i] += square / kCols, column[j] += square / kRows, all += square / (kRows * kCols);
    }
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      const double update = g[i * kCols + j] / std::sqrt(row[i] * column[j] / all);
      CHECK(std::fabs(after[i * kCols + j] - (before[i * kCols + j] - 0.1 * update)) < 1e-5);
    }
}

}  // namespace lowrank::test
