// Norms, every level and operand type, against their definitions in double; gradients also against finite differences.
#include <algorithm>

#include "kernel_cases.h"

namespace lowrank::test {

TEST("rms_norm normalizes rows and leaves the reciprocal RMS") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor x(DType::f32, kRows, cols, random, 3.0), y(dtype, kRows, cols);
    const std::vector<float> w = random_floats(random, cols);
    std::vector<float> rstd(kRows);
    run(level, pool, RmsNorm{kRows, 1, cols, x.at(), ptr(w), 1e-5f, y.at(), ptr(rstd)});
    std::vector<double> expected;
    for (int64_t row = 0; row < kRows; ++row) {
      double squares = 0;
      for (int64_t col = 0; col < cols; ++col) squares += x.get(row, col) * x.get(row, col);
      const double r = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
      CHECK_CLOSE(rstd[row], r, 1e-6);
      for (int64_t col = 0; col < cols; ++col) expected.push_back(x.get(row, col) * r * w[col]);
    }
    CHECK_ALL_CLOSE(y.values(), expected, tolerance(dtype));
    CHECK(y.spare_untouched());
  });
}

TEST("rms_norm_backward adds the gradient of the norm") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    if (cols > 100) return;  // finite differences of every element
    Pool pool(2);
    Tensor x(DType::f32, kRows, cols, random, 2.0), dy(dtype, kRows, cols, random), dx(DType::f32, kRows, cols, random);
    const std::vector<float> w = random_floats(random, cols);
    const std::vector<double> before = dx.values();
    const auto loss = [&](const std::vector<double>& values) {
      double sum = 0;
      for (int64_t row = 0; row < kRows; ++row) {
        double squares = 0;
        for (int64_t col = 0; col < cols; ++col) squares += values[row * cols + col] * values[row * cols + col];
        const double r = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (int64_t col = 0; col < cols; ++col) sum += values[row * cols + col] * r * w[col] * dy.get(row, col);
      }
      return sum;
    };
    std::vector<double> expected = numeric_gradient(x.values(), loss);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
    Tensor y(dtype, kRows, cols);
    std::vector<float> rstd(kRows);
    run(level, pool, RmsNorm{kRows, 1, cols, x.at(), ptr(w), 1e-5f, y.at(), ptr(rstd)});
    run(level, pool, RmsNormBackward{kRows, 1, cols, dy.at(), x.at(), ptr(w), ptr(rstd), dx.at()});
    CHECK_ALL_CLOSE(dx.values(), expected, 2e-6);
    CHECK(dx.spare_untouched());
  });
}

TEST("rms_norm of an operand may take its place, and its gradient that of the output's gradient") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    if (cols > 100) return;  // finite differences of every element
    if (cols == 1) return;   // a number over its own size: the gradient cancels
    Pool pool(2);
    Tensor x(dtype, kRows, cols, random, 2.0), y(dtype, kRows, cols), d(dtype, kRows, cols, random);
    const std::vector<float> w = random_floats(random, cols);
    const std::vector<double> dy = d.values();
    const auto normed = [&](const std::vector<double>& values) {
      std::vector<double> result;
      for (int64_t row = 0; row < kRows; ++row) {
        double squares = 0;
        for (int64_t col = 0; col < cols; ++col) squares += values[row * cols + col] * values[row * cols + col];
        const double r = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (int64_t col = 0; col < cols; ++col) result.push_back(values[row * cols + col] * r * w[col]);
      }
      return result;
    };
    const auto loss = [&](const std::vector<double>& values) {
      double sum = 0;
      const std::vector<double> out = normed(values);
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * dy[i];
      return sum;
    };
    std::vector<float> rstd(kRows), again(kRows);
    run(level, pool, RmsNorm{kRows, 1, cols, x.at(), ptr(w), 1e-5f, y.at(), ptr(rstd)});
    CHECK_ALL_CLOSE(y.values(), normed(x.values()), tolerance(dtype));
    run(level, pool, RmsNormBackward{kRows, 1, cols, d.at(), x.at(), ptr(w), ptr(rstd), d.at()});
    CHECK_ALL_CLOSE(d.values(), numeric_gradient(x.values(), loss), tolerance(dtype));
    run(level, pool, RmsNorm{kRows, 1, cols, x.at(), ptr(w), 1e-5f, x.at(), ptr(again)});
    CHECK(x == y && again == rstd);
    CHECK(d.spare_untouched() && y.spare_untouched());
  });
}

TEST("the gradient of a norm's weight adds up over rows of either type") {
  Pool pool(2);
  for (const DType of_x : {DType::f32, DType::bf16}) {
    for (const int64_t cols : kCols) {
      Random random(static_cast<uint64_t>(cols));
      Tensor x(of_x, kRows, cols, random), dy(DType::bf16, kRows, cols, random);
      const std::vector<float> rstd = random_floats(random, kRows);
      std::vector<float> found = random_floats(random, cols);
      std::vector<double> expected(found.begin(), found.end());
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t col = 0; col < cols; ++col) expected[col] += dy.get(row, col) * x.get(row, col) * rstd[row];
      run(cpu::Level::reference, pool, NormGradient{kRows, 1, cols, dy.at(), x.at(), ptr(rstd), ptr(found)});
      CHECK_ALL_CLOSE(std::vector<double>(found.begin(), found.end()), expected, 2e-6);
    }
  }
}

}  // namespace lowrank::test
