// Element-wise kernels, at every level and operand type, against definitions in double.
#include <algorithm>

#include "core/random.h"
#include "kernel_cases.h"

namespace lowrank::test {

TEST("rope rotates the halves of every head, or of its first columns, by its position and back") {
  for_levels([](cpu::Level level) {
    Pool pool(2);
    for (const DType dtype : kOperandTypes) {
      for (const auto& [dim, turned] :
           {std::pair(2, 2), {16, 16}, {20, 20}, {64, 64}, {80, 80}, {128, 128}, {16, 12}, {20, 4}, {128, 96}}) {
        Random random(static_cast<uint64_t>(dim));
        const int64_t half = turned / 2, positions_known = 9;
        std::vector<float> cosine, sine;
        for (int64_t i = 0; i < positions_known * half; ++i) {
          cosine.push_back(static_cast<float>(std::cos(0.3 * static_cast<double>(i))));
          sine.push_back(static_cast<float>(std::sin(0.3 * static_cast<double>(i))));
        }
        const std::vector<int32_t> positions{0, 8, 3, 3, 1};
        Tensor x(dtype, kRows, 3 * dim, random);
        const Tensor original = x;
        std::vector<double> expected = x.values();
        for (int64_t row = 0; row < kRows; ++row) {
          for (int64_t head = 0; head < 3; ++head) {
            for (int64_t i = 0; i < half; ++i) {
              const double c = cosine[positions[row] * half + i], s = sine[positions[row] * half + i];
              const int64_t at = row * 3 * dim + head * dim + i;
              const double x1 = original.get(row, head * dim + i), x2 = original.get(row, head * dim + i + half);
              expected[at] = x1 * c - x2 * s;
              expected[at + half] = x2 * c + x1 * s;
            }
          }
        }
        const auto rotate = [&](bool inverse) {
          run(level, pool, Rope{kRows, 3, dim, turned, x.at(), ptr(positions), ptr(cosine), ptr(sine), inverse});
        };
        rotate(false);
        CHECK_ALL_CLOSE(x.values(), expected, tolerance(dtype));
        rotate(true);
        CHECK_ALL_CLOSE(x.values(), original.values(), tolerance(dtype));
        CHECK(x.spare_untouched());
      }
    }
  });
}

TEST("dropout keeps what counter_hash says and scales it, and its gradient uses the same mask") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    const float p = 0.3f;
    const uint64_t key = 0x1234567890abcdefu;
    const float scale = 1.0f / (1.0f - p);
    Tensor x(DType::f32, kRows, cols, random), out(dtype, kRows, cols), sums(dtype, kRows, cols, random);
    const Tensor before = sums;
    run(level, pool, Dropout{kRows, cols, x.at(), p, key, out.at()});
    run(level, pool, DropoutBackward{kRows, cols, x.at(), p, key, sums.at()});
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const uint32_t draw = counter_hash(key, static_cast<uint64_t>(row * cols + col));
        const float value = draw >= p * 4294967296.0 ? static_cast<float>(x.get(row, col)) * scale : 0.0f;
        const bool exact = dtype == DType::f32;
        REQUIRE(out.get(row, col) == (exact ? value : f32_from_bf16(bf16_from_f32(value))));
        const float sum = static_cast<float>(before.get(row, col)) + value;
        REQUIRE(sums.get(row, col) == (exact ? sum : f32_from_bf16(bf16_from_f32(sum))));
      }
    }
    CHECK(out.spare_untouched());
  });
}

TEST("dropout of everything kept is the identity, and kept shares follow the probability") {
  for_levels([](cpu::Level level) {
    Pool pool(2);
    const int64_t cols = 100000;
    std::vector<float> x(cols, 1.0f), out(cols);
    const Matrix in = f32_matrix(ptr(x), cols), to = f32_matrix(ptr(out), cols);
    run(level, pool, Dropout{1, cols, in, 0.0f, 9, to});
    CHECK(x == out);
    for (const float p : {0.05f, 0.5f, 0.9f}) {
      run(level, pool, Dropout{1, cols, in, p, 9, to});
      const double kept = static_cast<double>(std::count_if(out.begin(), out.end(), [](float v) { return v != 0; }));
      CHECK_LE(std::fabs(kept / cols - (1 - p)), 5 * std::sqrt(p * (1 - p) / cols));
    }
  });
}

TEST("gather_rows and scatter_add_rows convert between operand types") {
  for_levels([](cpu::Level level) {
    Pool pool(2);
    const std::vector<int32_t> rows{4, 0, 2};
    for (const DType from : kOperandTypes) {
      for (const DType to : kOperandTypes) {
        for (const int64_t cols : kCols) {
          Random random(static_cast<uint64_t>(cols));
          Tensor x(from, 5, cols, random), picked(to, 3, cols), straight(to, 5, cols), sums(to, 5, cols, random);
          const Tensor before = sums;
          Tensor all = sums;
          run(level, pool, GatherRows{3, cols, x.at(), ptr(rows), picked.at()});
          run(level, pool, GatherRows{5, cols, x.at(), {}, straight.at()});
          run(level, pool, ScatterAddRows{3, cols, x.at(), ptr(rows), sums.at()});
          run(level, pool, ScatterAddRows{5, cols, x.at(), {}, all.at()});
          const auto rounded = [&](double value) {
            const float single = static_cast<float>(value);
            return static_cast<double>(to == DType::f32 ? single : f32_from_bf16(bf16_from_f32(single)));
          };
          for (int64_t col = 0; col < cols; ++col) {
            for (int64_t i = 0; i < 3; ++i) {
              REQUIRE(picked.get(i, col) == rounded(x.get(rows[i], col)));
              REQUIRE(sums.get(rows[i], col) == rounded(before.get(rows[i], col) + x.get(i, col)));
            }
            for (int64_t i = 0; i < 5; ++i) {
              REQUIRE(straight.get(i, col) == rounded(x.get(i, col)));
              REQUIRE(all.get(i, col) == rounded(before.get(i, col) + x.get(i, col)));
            }
            for (const int64_t i : {1, 3}) REQUIRE(sums.get(i, col) == before.get(i, col));
          }
          CHECK(picked.spare_untouched());
          CHECK(straight.spare_untouched());
          CHECK(sums.spare_untouched());
        }
      }
    }
  });
}

TEST("values are rounded to bf16 to nearest even, and NaN stays NaN") {
  const float values[] = {1.0f,     1.00390625f, 1.01171875f, 1.0039063f, -1.00390625f, 3.3895314e38f, 3.4e38f,
                          INFINITY, -INFINITY,   NAN,         0.0f,       -0.0f,        1e-30f,        -2.5e-7f};
  for_levels([&](cpu::Level level) {
    Pool pool(1);
    for (int64_t cols = 1; cols <= 40; cols += 13) {
      std::vector<float> x(cols);
      std::vector<uint16_t> out(cols);
      for (size_t shift = 0; shift < std::size(values); ++shift) {
        for (int64_t i = 0; i < cols; ++i) x[i] = values[(shift + static_cast<size_t>(i)) % std::size(values)];
        const Matrix to{ptr(out).as<std::byte>(), DType::bf16, cols};
        run(level, pool, GatherRows{1, cols, f32_matrix(ptr(x), cols), {}, to});
        for (int64_t i = 0; i < cols; ++i) {
          if (std::isnan(x[i])) {
            CHECK(std::isnan(f32_from_bf16(out[i])));
          } else {
            CHECK_EQ(out[i], bf16_from_f32(x[i]));
          }
        }
      }
    }
  });
}

TEST("scale_columns scales, adds a bias and an addend, in place too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor x(dtype, kRows, cols, random), addend(DType::f32, kRows, cols, random), y(DType::f32, kRows, cols);
    const Tensor before = x, added = addend;
    const std::vector<float> gain = random_floats(random, cols), bias = random_floats(random, cols);
    std::vector<double> full, plain;
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        plain.push_back(before.get(row, col) * gain[col]);
        full.push_back(plain.back() + bias[col] + added.get(row, col));
      }
    }
    run(level, pool, ScaleColumns{kRows, cols, x.at(), ptr(gain), ptr(bias), addend.at(), y.at()});
    CHECK_ALL_CLOSE(y.values(), full, 2e-6);
    run(level, pool, ScaleColumns{kRows, cols, x.at(), ptr(gain), ptr(bias), addend.at(), addend.at()});
    CHECK(addend.values() == y.values());
    run(level, pool, ScaleColumns{kRows, cols, x.at(), ptr(gain), {}, {}, x.at()});
    CHECK_ALL_CLOSE(x.values(), plain, tolerance(dtype));
    CHECK(x.spare_untouched());
    CHECK(y.spare_untouched());
    CHECK(addend.spare_untouched());
  });
}

}  // namespace lowrank::test
