// Shapes and tolerances of tests of kernels that treat rows alike, and finite differences.
#pragma once

#include <functional>
#include <vector>

#include "ops_support.h"

namespace lowrank::test {

inline constexpr int64_t kCols[] = {1, 7, 15, 17, 72, 576, 1031};
inline constexpr int64_t kRows = 5;

/// Rounding of one result: fp32 functions of a few operations, or bf16.
inline double tolerance(DType dtype) { return dtype == DType::f32 ? 2e-6 : 4e-3; }

/// Central difference of f at x[i], for every i.
inline std::vector<double> numeric_gradient(std::vector<double> x,
                                            const std::function<double(const std::vector<double>&)>& f) {
  std::vector<double> gradient;
  for (double& value : x) {
    const double saved = value;
    value = saved + 1e-5;
    const double above = f(x);
    value = saved - 1e-5;
    const double below = f(x);
    value = saved;
    gradient.push_back((above - below) / 2e-5);
  }
  return gradient;
}

inline std::vector<float> random_floats(Random& random, int64_t count, double scale = 1) {
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<float>(random.normal() * scale));
  return result;
}

/// body(level, dtype, cols, random) for all levels, operand types and widths.
template <class Body>
void for_cases(Body&& body) {
  for_levels([&](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const int64_t cols : kCols) {
        Random random(static_cast<uint64_t>(cols));
        body(level, dtype, cols, random);
      }
    }
  });
}

}  // namespace lowrank::test
