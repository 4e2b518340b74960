#include "backends/cuda/launch/norm.h"

#include "backends/cuda/tensor.h"

using namespace lowrank;
using namespace lowrank::cuda;

TEST("CUDA's rms_norm equals float64") {
  for_each_execution([](Runner& run) {
    for (const auto& [x_type, y_type] : {std::pair(DType::f32, DType::f32), {DType::f32, DType::bf16}, {DType::bf16, DType::bf16}}) {
      for (const auto& [rows, cols] : {std::pair(1, 1), {3, 7}, {2, 63}, {1, 129}, {2, 700}, {1, 1024}}) {
        test::Random random(1);
        Tensor x(run, x_type, rows, cols, random), y(run, y_type, rows, cols), w(run, DType::f32, 1, cols, random);
        Tensor rstd(run, DType::f32, 1, rows);
        lowrank::cuda::run(run, RmsNorm{rows, cols, x.matrix(), w.floats(), 1e-5f, y.matrix(), rstd.floats()}, {});
        for (int64_t row = 0; row < rows; ++row) {
          double squares = 0;
          for (int64_t col = 0; col < cols; ++col) squares += x(row, col) * x(row, col);
          const double r = 1 / std::sqrt(squares / cols + 1e-5f);
          CHECK_CLOSE(rstd(0, row), r, 1e-6);
          for (int64_t col = 0; col < cols; ++col) CHECK(y.near(row, col, x(row, col) * r * w(0, col)));
        }
      }
    }
  });
}
