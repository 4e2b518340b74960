// The element-wise and row-wise operators, every level and operand type, against their definitions in double; gradients
// also against finite differences.
#include <algorithm>
#include <functional>
#include <numbers>
#include <string>

#include "core/random.h"
#include "kernel_cases.h"

namespace lowrank::test {

TEST("embedding copies rows of f32, bf16 and f16 tables") {
  for_levels([](cpu::Level level) {
    Pool pool(2);
    const std::vector<int32_t> ids{2, 0, 2};
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const int64_t cols : kCols) {
        Tensor table(dtype, 3, cols), out(DType::f32, 3, cols);
        for (int64_t i = 0; i < table.rows() * (cols + 3); ++i) {
          if (dtype == DType::f32) table.data<float>()[i] = static_cast<float>(i) * 0.37f;
          if (dtype != DType::f32) table.data<uint16_t>()[i] = static_cast<uint16_t>(i * 7);
        }
        WeightView view;
        view.format = dtype == DType::f32    ? WeightFormat::f32
                      : dtype == DType::bf16 ? WeightFormat::bf16
                                             : WeightFormat::f16;
        view.rows = 3;
        view.cols = cols;
        view.data = table.data<float>();
        view.ld = table.at().ld;
        Views weights;
        run(level, pool, DecodeRows{3, ptr(ids), weights.add(view), out.at()}, weights);
        for (int64_t row = 0; row < 3; ++row) {
          for (int64_t col = 0; col < cols; ++col)
            CHECK_EQ(out.get(row, col), table.get(ids[static_cast<size_t>(row)], col));
        }
        CHECK(out.spare_untouched());
      }
    }
  });
}

TEST("counter_hash gives uniform bits that neighboring indices and keys do not share") {
  const int64_t count = 1 << 16;
  for (int bit = 0; bit < 32; ++bit) {
    int64_t ones = 0, as_next = 0, as_next_key = 0, as_pair = 0;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t draw = counter_hash(1, static_cast<uint64_t>(i));
      ones += draw >> bit & 1;
      as_next += ((draw ^ counter_hash(1, static_cast<uint64_t>(i + 1))) >> bit & 1) == 0;
      as_pair += ((draw ^ counter_hash(1, static_cast<uint64_t>(i + 2))) >> bit & 1) == 0;
      as_next_key += ((draw ^ counter_hash(2, static_cast<uint64_t>(i))) >> bit & 1) == 0;
    }
    for (const int64_t share : {ones, as_next, as_pair, as_next_key}) {
      CHECK_LE(std::abs(share - count / 2), 5 * 128);  // five standard deviations
    }
  }
}

TEST("operators have the same bits for one, two and three threads") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      const int64_t rows = 97, cols = 1031;
      std::vector<Tensor> results[3];
      for (int threads = 1; threads <= 3; ++threads) {
        Pool pool(threads);
        Random random(43);
        Tensor x(DType::f32, rows, cols, random), y(dtype, rows, cols), dx(DType::f32, rows, cols, random);
        Tensor gate(dtype, rows, cols, random), up(dtype, rows, cols, random), act(dtype, rows, cols);
        const std::vector<float> w = random_floats(random, cols);
        std::vector<float> rstd(rows), loss(rows);
        const std::vector<int32_t> labels(rows, 5);
        run(level, pool, RmsNorm{rows, 1, cols, x.at(), ptr(w), 1e-5f, y.at(), ptr(rstd)});
        run(level, pool, RmsNormBackward{rows, 1, cols, y.at(), x.at(), ptr(w), ptr(rstd), dx.at()});
        run(level, pool, GatedUnit{Activation::silu, rows, cols, gate.at(), up.at(), act.at()});
        run(level, pool, DropoutBackward{rows, cols, act.at(), 0.4f, 3, dx.at()});
        run(level, pool,
            GatedUnitBackward{Activation::silu, rows, cols, act.at(), gate.at(), up.at(), gate.at(), up.at()});
        Tensor grad(dtype, rows, cols);
        run(level, pool, CrossEntropy{rows, cols, x.at(), ptr(labels), 1, ptr(loss), grad.at()});
        Tensor scaled(dtype, rows, cols), gains(DType::f32, 1, cols);
        for (int64_t col = 0; col < cols; ++col) gains.set(0, col, 0);
        run(level, pool,
            ScaleColumnsBackward{rows, cols, grad.at(), act.at(), ptr(w), ptr(w), scaled.at(),
                                 cpu::address_of(gains.data<float>())});
        results[threads - 1] = {y, dx, act, gate, up, grad, scaled, gains};
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  });
}

}  // namespace lowrank::test
