#include "kernels/sum_of_squares.h"

#include "kernel_cases.h"

namespace lowrank::test {

TEST("sum_of_squares sums in double whatever the length") {
  for_levels([](cpu::Level level) {
    for (const int64_t count : {0, 1, 17, 4096, 4097, 300001}) {
      Random random(37);
      const std::vector<float> x = random_floats(random, count, 1e3);
      double expected = 0;
      for (const float value : x) expected += static_cast<double>(value) * value;
      double results[3];
      for (int threads = 1; threads <= 3; ++threads) {
        Pool pool(threads);
        run(level, pool, SumOfSquares{count, ptr(x), cpu::address_of(&results[threads - 1])});
      }
      CHECK_CLOSE(results[0], expected, 1e-12);
      CHECK_EQ(results[1], results[0]);
      CHECK_EQ(results[2], results[0]);
    }
  });
}

}  // namespace lowrank::test
