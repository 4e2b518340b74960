#include "backends/cuda/runs.h"

#include "backends/cuda/bench.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

constexpr std::pair<int64_t, int64_t> kShapes[] = {{1, 1},   {9, 7},    {63, 8},   {2, 129},
                                                   {17, 64}, {3, 1024}, {2, 1100}, {1, 4104}};

}  // namespace

TEST("CUDA's rms_norm equals float64, by types, in place too") {
  for_each_execution([](Runner& run) {
    for (const auto& [x_type, y_type] :
         {std::pair(DType::f32, DType::f32), {DType::f32, DType::bf16}, {DType::bf16, DType::bf16}}) {
      for (const auto& [rows, cols] : kShapes) {
        test::Random random(1);
        const int64_t spare = cols % 5;
        Tensor x(run, x_type, rows, cols, random, 1, spare), y(run, y_type, rows, cols, spare);
        Tensor w(run, DType::f32, 1, cols, random), rstd(run, DType::f32, 1, rows);
        std::vector<double> before;
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t col = 0; col < cols; ++col) before.push_back(x(row, col));
        lowrank::cuda::run(run, RmsNorm{rows, 1, cols, x.matrix(), w.floats(), 1e-5f, y.matrix(), rstd.floats()}, {});
        if (x_type == y_type)
          lowrank::cuda::run(run, RmsNorm{rows, 1, cols, x.matrix(), w.floats(), 1e-5f, x.matrix(), rstd.floats()}, {});
        for (int64_t row = 0; row < rows; ++row) {
          const double* const in = before.data() + row * cols;
          double squares = 0;
          for (int64_t col = 0; col < cols; ++col) squares += in[col] * in[col];
          const double r = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5f);
          CHECK_CLOSE(rstd(0, row), r, 1e-6);
          for (int64_t col = 0; col < cols; ++col) {
            CHECK(y.near(row, col, in[col] * r * w(0, col)));
            if (x_type == y_type) CHECK(x.near(row, col, in[col] * r * w(0, col)));
          }
        }
        CHECK(x.spare_untouched() && y.spare_untouched());
      }
    }
  });
}

TEST("CUDA's rms_norm of groups of columns equals the CPU's, in rows with gaps") {
  for (const int64_t cols : {7, 16, 128, 1088}) {
    const int64_t gap = cols < 128 ? 3 : 16;  // rows of the larger begin at sectors of memory
    for (const int64_t groups : {2, 9}) {
      for (const DType type : {DType::f32, DType::bf16}) {
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix x = bench.matrix(type, 5, groups * cols, gap),
                           y = bench.empty(type, 5, groups * cols, 2 * gap);
              const Ptr<float> w = bench.floats(cols), rstd = bench.floats(5 * groups);
              return RmsNorm{5, groups, cols, x, w, 1e-5f, y, rstd};
            },
            {4e-6, 8});
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(type, 5, groups * cols, 2 * gap),
                           x = bench.matrix(type, 5, groups * cols, gap);
              const Ptr<float> w = bench.floats(cols), rstd = bench.floats(5 * groups);
              return RmsNormBackward{5, groups, cols, dy, x, w, rstd, dy};
            },
            {4e-6, 8});
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(type, 5, groups * cols, 2 * gap),
                           x = bench.matrix(type, 5, groups * cols, gap);
              const Ptr<float> rstd = bench.floats(5 * groups);
              return NormGradient{5, groups, cols, dy, x, rstd, bench.floats(cols)};
            },
            {4e-6, 40});
      }
    }
  }
}

TEST("CUDA's gradient of rms_norm equals the CPU's, adding and in place") {
  for (const auto& [rows, cols] : kShapes) {
    for (const auto& [dy_type, x_type] :
         {std::pair(DType::f32, DType::f32), {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}}) {
      for (const bool replaces : {false, true}) {
        if (replaces && dy_type != x_type) continue;
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(dy_type, rows, cols, cols % 3);
              const Matrix x = bench.matrix(x_type, rows, cols, cols % 5);
              const Ptr<float> w = bench.floats(cols), rstd = bench.floats(rows);
              const Matrix dx = replaces ? dy : bench.matrix(DType::f32, rows, cols, 1);
              return RmsNormBackward{rows, 1, cols, dy, x, w, rstd, dx};
            },
            {4e-6, 8});
      }
    }
  }
}
