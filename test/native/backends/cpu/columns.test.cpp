// Sums over the rows of each column, every level and operand type, against their definitions in double.
#include "kernel_cases.h"

namespace lowrank::test {

TEST("scale_columns_backward gives the gradients of the input and the gains, in place too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(3);
    const int64_t rows = 150;  // more than are summed at a time
    Tensor x(dtype, rows, cols, random), dy(dtype, rows, cols, random), dx(dtype, rows, cols);
    const Tensor before = dy;
    const std::vector<float> gain = random_floats(random, cols), share = random_floats(random, cols);
    const std::vector<float> start = random_floats(random, cols);
    std::vector<float> dgain = start, again = start;
    std::vector<double> inputs, gains(start.begin(), start.end());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        inputs.push_back(before.get(row, col) * gain[col]);
        gains[col] += share[col] * before.get(row, col) * x.get(row, col);
      }
    }
    run(level, pool, ScaleColumnsBackward{rows, cols, dy.at(), x.at(), ptr(gain), ptr(share), dx.at(), ptr(dgain)});
    CHECK_ALL_CLOSE(dx.values(), inputs, tolerance(dtype));
    CHECK_ALL_CLOSE(dgain, gains, 1e-5);
    run(level, pool, ScaleColumnsBackward{rows, cols, dy.at(), x.at(), ptr(gain), ptr(share), dy.at(), ptr(again)});
    CHECK(dy.values() == dx.values());
    CHECK(again == dgain);
    CHECK(dx.spare_untouched());
    CHECK(dy.spare_untouched());
  });
}

}  // namespace lowrank::test
