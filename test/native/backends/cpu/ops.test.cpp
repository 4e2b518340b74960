// The element-wise and row-wise operators, every level and operand type, against their definitions in double; gradients
// also against finite differences.
#include <algorithm>
#include <functional>
#include <numbers>
#include <string>

#include "kernel_cases.h"

namespace lowrank::test {

TEST("embedding copies rows of f32, bf16 and f16 tables") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    Pool pool(2);
    const int32_t ids[] = {2, 0, 2};
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      for (const int64_t cols : kCols) {
        Tensor table(dtype, 3, cols), out(DType::f32, 3, cols);
        for (int64_t i = 0; i < table.rows() * (cols + 3); ++i) {
          if (dtype == DType::f32) table.data<float>()[i] = static_cast<float>(i) * 0.37f;
          if (dtype != DType::f32) table.data<uint16_t>()[i] = static_cast<uint16_t>(i * 7);
        }
        ops.embedding(pool, 3, cols, ids, table.matrix(), out.matrix());
        for (int64_t row = 0; row < 3; ++row) {
          for (int64_t col = 0; col < cols; ++col) CHECK_EQ(out.get(row, col), table.get(ids[row], col));
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
      const uint32_t draw = cpu::counter_hash(1, static_cast<uint64_t>(i));
      ones += draw >> bit & 1;
      as_next += ((draw ^ cpu::counter_hash(1, static_cast<uint64_t>(i + 1))) >> bit & 1) == 0;
      as_pair += ((draw ^ cpu::counter_hash(1, static_cast<uint64_t>(i + 2))) >> bit & 1) == 0;
      as_next_key += ((draw ^ cpu::counter_hash(2, static_cast<uint64_t>(i))) >> bit & 1) == 0;
    }
    for (const int64_t share : {ones, as_next, as_pair, as_next_key}) {
      CHECK_LE(std::abs(share - count / 2), 5 * 128);  // five standard deviations
    }
  }
}

TEST("sum_of_squares sums in double whatever the length") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    for (const int64_t count : {0, 1, 17, 4096, 4097, 300001}) {
      Random random(37);
      const std::vector<float> x = random_floats(random, count, 1e3);
      double expected = 0;
      for (const float value : x) expected += static_cast<double>(value) * value;
      double results[3];
      for (int threads = 1; threads <= 3; ++threads) {
        Pool pool(threads);
        results[threads - 1] = ops.sum_of_squares(pool, count, x.data());
      }
      CHECK_CLOSE(results[0], expected, 1e-12);
      CHECK_EQ(results[1], results[0]);
      CHECK_EQ(results[2], results[0]);
    }
  });
}

TEST("adamw takes the steps of torch.optim.AdamW") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    // torch.optim.AdamW on p = [0.1, -0.2, 0.3, -0.4] with a constant gradient, lr 0.01, weight_decay 0.01, three steps
    std::vector<float> p{0.1f, -0.2f, 0.3f, -0.4f}, m(4), v(4);
    const std::vector<float> grad{0.02f, -0.04f, 0.001f, 0.0f};
    const double expected[] = {0.0699730292, -0.1699430346, 0.2699135840, -0.3998800218};
    for (int64_t step = 1; step <= 3; ++step) {
      const cpu::AdamW options{0.01f, 0.9f, 0.999f, 1e-8f, 0.01f, step, 0.5f};
      ops.adamw(4, options, grad.data(), m.data(), v.data(), p.data());
    }
    for (int i = 0; i < 4; ++i) CHECK_CLOSE(p[i], expected[i], 4e-7);
  });
}

TEST("adamw of many parameters follows the formula") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    Random random(41);
    const int64_t count = 66001;
    std::vector<float> p = random_floats(random, count), m(count), v(count);
    std::vector<double> ep(p.begin(), p.end()), em(count), ev(count);
    for (int64_t step = 1; step <= 4; ++step) {
      const std::vector<float> grad = random_floats(random, count, 1e-3);
      const cpu::AdamW options{2e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, step, 0.25f};
      ops.adamw(count, options, grad.data(), m.data(), v.data(), p.data());
      for (int64_t i = 0; i < count; ++i) {
        const double g = grad[i] * 0.25, b1 = 0.9f, b2 = 0.95f;
        em[i] = b1 * em[i] + (1 - b1) * g;
        ev[i] = b2 * ev[i] + (1 - b2) * g * g;
        const double root = std::sqrt(ev[i] / (1 - std::pow(b2, step))) + 1e-8f;
        ep[i] = ep[i] * (1 - static_cast<double>(2e-3f) * 0.1f) - 2e-3f / (1 - std::pow(b1, step)) * em[i] / root;
      }
    }
    CHECK_ALL_CLOSE(p, ep, 3e-7);
    CHECK_ALL_CLOSE(m, em, 3e-7);
    CHECK_ALL_CLOSE(v, ev, 3e-7);
  });
}

TEST("sgd takes the steps of torch.optim.SGD") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    // torch.optim.SGD in float64 on p = [0.1, -0.2, 0.3, -0.4, 0.5], lr 0.1, momentum 0.9, weight_decay 0.01, three
    // steps with half of these gradients
    std::vector<float> p{0.1f, -0.2f, 0.3f, -0.4f, 0.5f}, m(5);
    const std::vector<float> grad{0.02f, -0.04f, 0.001f, 0.0f, 2.0f};
    const double expected[] = {0.0938342789, -0.1876685578, 0.2980381796, -0.3977579196, -0.0633227005};
    for (int step = 1; step <= 3; ++step) ops.sgd(5, {0.1f, 0.9f, 0.01f, 0.5f}, grad.data(), m.data(), p.data());
    for (int i = 0; i < 5; ++i) CHECK_CLOSE(p[i], expected[i], 4e-7);
  });
}

namespace {

/// The state of AdamW with 8-bit moments.
struct CodedMoments {
  explicit CodedMoments(int64_t count)
      : codes(2 * count), absmax(2 * ((count + kDynamicBlock - 1) / kDynamicBlock)), count_(count) {}
  DynamicCodes m() { return {codes.data(), absmax.data()}; }
  DynamicCodes root_v() { return {codes.data() + count_, absmax.data() + absmax.size() / 2}; }

  std::vector<uint8_t> codes;
  std::vector<float> absmax;

 private:
  int64_t count_;
};

}  // namespace

TEST("adamw with 8-bit moments takes the steps of a float64 transcription") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    // Decay before the update, the signed map with its sign kept for m, the unsigned one for the root of v, nearest
    // codes.
    std::vector<float> p{0.1f, -0.2f, 0.3f, -0.4f};
    const std::vector<float> grad{0.01f, -0.02f, 0.0005f, 0.0f};
    const double values[3][4] = {{0.0899900123, -0.189980015, 0.289970189, -0.399960011},
                                 {0.0799462348, -0.17999433, 0.279805213, -0.399920017},
                                 {0.0699129403, -0.170041561, 0.26961717, -0.399880022}};
    const double largest[3][2] = {
        {0.002, 6.32455514e-4}, {0.00378734386, 8.94203549e-4}, {0.00538464263, 0.00109489739}};
    CodedMoments state(4);
    for (int64_t step = 1; step <= 3; ++step) {
      const cpu::AdamW options{0.01f, 0.9f, 0.999f, 1e-8f, 0.01f, step, 1.0f};
      ops.adamw_8bit(4, options, grad.data(), state.m(), state.root_v(), p.data());
      for (int i = 0; i < 4; ++i) CHECK_CLOSE(p[i], values[step - 1][i], 2e-7);
      CHECK_CLOSE(state.absmax[0], largest[step - 1][0], 2e-7);
      CHECK_CLOSE(state.absmax[1], largest[step - 1][1], 1e-5);  // 1 - 0.999 loses digits in fp32
      CHECK(state.codes == (std::vector<uint8_t>{219, 0, 164, 127, 183, 255, 73, 0}));
    }
  });
}

TEST("adamw with 8-bit moments makes no step beyond those of fp32, whatever the scales in a block") {
  // Codes of v, rather than of its root, are 0 for the small half at 1e-3 already: steps of hundreds of learning rates.
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    const int64_t count = 4096;
    for (const double ratio : {1.0, 0.1, 0.01, 1e-3, 1e-4}) {
      Random random(47);
      std::vector<float> p(count), p32(count), m(count), v(count), grad(count);
      CodedMoments state(count);
      double most = 0, difference = 0, norm = 0;
      for (int64_t step = 1; step <= 50; ++step) {
        for (int64_t i = 0; i < count; ++i)
          grad[i] = static_cast<float>(0.01 * random.normal() * (i % 2 == 1 ? ratio : 1));
        const std::vector<float> before = p;
        const cpu::AdamW options{1e-3f, 0.9f, 0.999f, 1e-8f, 0, step, 1.0f};
        ops.adamw_8bit(count, options, grad.data(), state.m(), state.root_v(), p.data());
        ops.adamw(count, options, grad.data(), m.data(), v.data(), p32.data());
        for (int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(double{p[i]} - before[i]) / 1e-3);
      }
      for (int64_t i = 1; i < count; i += 2) {
        difference += (double{p[i]} - p32[i]) * (double{p[i]} - p32[i]);
        norm += double{p32[i]} * p32[i];
      }
      CHECK_LE(most, 10.0);
      CHECK_LE(std::sqrt(difference / norm), ratio == 1 ? 0.03 : ratio == 0.1 ? 0.06 : ratio == 0.01 ? 0.12 : 0.4);
    }
  });
}

TEST("lion takes the steps of a float64 transcription, and with an 8-bit moment nearly so") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    Random random(53);
    const int64_t count = 1031;
    std::vector<float> p = random_floats(random, count), m(count), p8 = p;
    std::vector<double> ep(p.begin(), p.end()), em(count);
    CodedMoments state(count);
    for (int step = 1; step <= 5; ++step) {
      std::vector<float> grad = random_floats(random, count, 1e-3);
      grad[7] = 0;
      const cpu::Lion options{1e-3f, 0.9f, 0.99f, 0.1f, 0.5f};
      ops.lion(count, options, grad.data(), m.data(), p.data());
      ops.lion_8bit(count, options, grad.data(), state.m(), p8.data());
      for (int64_t i = 0; i < count; ++i) {
        const double g = grad[i] * 0.5, b1 = 0.9f, b2 = 0.99f, mixed = b1 * em[i] + (1 - b1) * g;
        ep[i] = ep[i] * (1 - static_cast<double>(1e-3f) * 0.1f) - 1e-3f * (mixed > 0 ? 1 : mixed < 0 ? -1 : 0);
        em[i] = b2 * em[i] + (1 - b2) * g;
      }
    }
    CHECK_ALL_CLOSE(p, ep, 3e-7);
    CHECK_ALL_CLOSE(m, em, 1e-6);
    CHECK_EQ(m[7], 0.0f);
    int64_t others = 0;
    for (int64_t i = 0; i < count; ++i) others += std::fabs(p8[i] - p[i]) > 1e-6f;
    CHECK_LE(others, count / 50);  // a sign may differ where the two parts nearly cancel
  });
}

TEST("updates do not depend on where a range begins") {
  for_levels([](cpu::Level, const cpu::OpKernels& ops) {
    Random random(59);
    const int64_t count = 2000, cut = 3 * kDynamicBlock;
    const std::vector<float> grad = random_floats(random, count);
    std::vector<float> p = random_floats(random, count), split = p, m(count), v(count), m2(count), v2(count);
    CodedMoments whole(count), parts(count);
    const cpu::AdamW adamw{1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 3, 0.5f};
    const cpu::Lion lion{1e-3f, 0.9f, 0.99f, 0.1f, 0.5f};
    ops.adamw(count, adamw, grad.data(), m.data(), v.data(), p.data());
    ops.adamw_8bit(count, adamw, grad.data(), whole.m(), whole.root_v(), p.data());
    ops.lion(count, lion, grad.data(), m.data(), p.data());
    ops.lion_8bit(count, lion, grad.data(), whole.m(), p.data());
    for (const auto& [i, size] : {std::pair{int64_t{0}, cut}, std::pair{cut, count - cut}}) {
      ops.adamw(size, adamw, grad.data() + i, m2.data() + i, v2.data() + i, split.data() + i);
      ops.adamw_8bit(size, adamw, grad.data() + i, parts.m().from(i), parts.root_v().from(i), split.data() + i);
      ops.lion(size, lion, grad.data() + i, m2.data() + i, split.data() + i);
      ops.lion_8bit(size, lion, grad.data() + i, parts.m().from(i), split.data() + i);
    }
    CHECK(p == split && m == m2 && v == v2);
    CHECK(whole.codes == parts.codes && whole.absmax == parts.absmax);
  });
}

TEST("operators have the same bits for one, two and three threads") {
  for_levels([](cpu::Level level, const cpu::OpKernels&) {
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
