#include "kernels/updates.h"

#include <algorithm>
#include <cmath>

#include "kernel_cases.h"
#include "optimizer_cases.h"

namespace lowrank::test {

TEST("adamw takes the steps of torch.optim.AdamW") {
  for_levels([](cpu::Level level) {
    Pool pool(1);
    // torch.optim.AdamW on p = [0.1, -0.2, 0.3, -0.4] with a constant gradient, lr 0.01, weight_decay 0.01, three steps
    std::vector<float> p{0.1f, -0.2f, 0.3f, -0.4f}, m(4), v(4);
    const std::vector<float> grad{0.02f, -0.04f, 0.001f, 0.0f};
    const double expected[] = {0.0699730292, -0.1699430346, 0.2699135840, -0.3998800218};
    for (int64_t step = 1; step <= 3; ++step) {
      const UpdatePiece piece{4, 1, ptr(p), ptr(grad), {ptr(m)}, {ptr(v)}, 0.01f, 0.01f, step};
      run(level, pool, AdamW{0.9f, 0.999f, 1e-8f, 0.5f, {&piece, 1}});
    }
    for (int i = 0; i < 4; ++i) CHECK_CLOSE(p[i], expected[i], 4e-7);
  });
}

TEST("adamw of many parameters follows the formula") {
  for_levels([](cpu::Level level) {
    Pool pool(1);
    Random random(41);
    const int64_t count = 66001;
    std::vector<float> p = random_floats(random, count), m(count), v(count);
    std::vector<double> ep(p.begin(), p.end()), em(count), ev(count);
    for (int64_t step = 1; step <= 4; ++step) {
      const std::vector<float> grad = random_floats(random, count, 1e-3);
      const UpdatePiece piece{count, 1, ptr(p), ptr(grad), {ptr(m)}, {ptr(v)}, 2e-3f, 0.1f, step};
      run(level, pool, AdamW{0.9f, 0.95f, 1e-8f, 0.25f, {&piece, 1}});
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
  for_levels([](cpu::Level level) {
    Pool pool(1);
    // torch.optim.SGD in float64 on p = [0.1, -0.2, 0.3, -0.4, 0.5], lr 0.1, momentum 0.9, weight_decay 0.01, three
    // steps with half of these gradients
    std::vector<float> p{0.1f, -0.2f, 0.3f, -0.4f, 0.5f}, m(5);
    const std::vector<float> grad{0.02f, -0.04f, 0.001f, 0.0f, 2.0f};
    const double expected[] = {0.0938342789, -0.1876685578, 0.2980381796, -0.3977579196, -0.0633227005};
    const UpdatePiece piece{5, 1, ptr(p), ptr(grad), {ptr(m)}, {}, 0.1f, 0.01f};
    for (int step = 1; step <= 3; ++step) run(level, pool, Sgd{0.9f, 0.5f, {&piece, 1}});
    for (int i = 0; i < 5; ++i) CHECK_CLOSE(p[i], expected[i], 4e-7);
  });
}

namespace {

/// The state of AdamW with 8-bit moments.
struct CodedMoments {
  explicit CodedMoments(int64_t count)
      : codes(2 * count), absmax(2 * ((count + kMomentBlock - 1) / kMomentBlock)), count_(count) {}
  /// From element `first`, a multiple of kMomentBlock.
  Moments m(int64_t first = 0) { return {{}, ptr(codes) + first, ptr(absmax) + first / kMomentBlock}; }
  Moments root_v(int64_t first = 0) {
    return {
        {}, ptr(codes) + count_ + first, ptr(absmax) + static_cast<int64_t>(absmax.size()) / 2 + first / kMomentBlock};
  }

  std::vector<uint8_t> codes;
  std::vector<float> absmax;

 private:
  int64_t count_;
};

}  // namespace

TEST("adamw with 8-bit moments takes the steps of a float64 transcription") {
  for_levels([](cpu::Level level) {
    Pool pool(1);
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
      const UpdatePiece piece{4, 1, ptr(p), ptr(grad), state.m(), state.root_v(), 0.01f, 0.01f, step};
      run(level, pool, AdamW{0.9f, 0.999f, 1e-8f, 1.0f, {&piece, 1}});
      for (int i = 0; i < 4; ++i) CHECK_CLOSE(p[i], values[step - 1][i], 2e-7);
      CHECK_CLOSE(state.absmax[0], largest[step - 1][0], 2e-7);
      CHECK_CLOSE(state.absmax[1], largest[step - 1][1], 1e-5);  // 1 - 0.999 loses digits in fp32
      CHECK(state.codes == (std::vector<uint8_t>{219, 0, 164, 127, 183, 255, 73, 0}));
    }
  });
}

TEST("adamw with 8-bit moments makes no step beyond those of fp32, whatever the scales in a block") {
  // Codes of v, rather than of its root, are 0 for the small half at 1e-3 already: steps of hundreds of learning rates.
  for_levels([](cpu::Level level) {
    Pool pool(1);
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
        const UpdatePiece pieces[] = {
            {count, 1, ptr(p), ptr(grad), state.m(), state.root_v(), 1e-3f, 0, step},
            {count, 1, ptr(p32), ptr(grad), {ptr(m)}, {ptr(v)}, 1e-3f, 0, step},
        };
        run(level, pool, AdamW{0.9f, 0.999f, 1e-8f, 1.0f, pieces});
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
  for_levels([](cpu::Level level) {
    Pool pool(1);
    Random random(53);
    const int64_t count = 1031;
    std::vector<float> p = random_floats(random, count), m(count), p8 = p;
    std::vector<double> ep(p.begin(), p.end()), em(count);
    CodedMoments state(count);
    for (int step = 1; step <= 5; ++step) {
      std::vector<float> grad = random_floats(random, count, 1e-3);
      grad[7] = 0;
      const UpdatePiece pieces[] = {{count, 1, ptr(p), ptr(grad), {ptr(m)}, {}, 1e-3f, 0.1f},
                                    {count, 1, ptr(p8), ptr(grad), state.m(), {}, 1e-3f, 0.1f}};
      run(level, pool, Lion{0.9f, 0.99f, 0.5f, pieces});
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
  for_levels([](cpu::Level level) {
    Pool pool(1);
    Random random(59);
    const int64_t count = 2000, cut = 3 * kMomentBlock;
    const std::vector<float> grad = random_floats(random, count);
    std::vector<float> p = random_floats(random, count), split = p, m(count), v(count), m2(count), v2(count);
    CodedMoments whole(count), parts(count);
    const auto update = [&](std::vector<float>& to, std::vector<float>& first, std::vector<float>& second,
                            CodedMoments& codes, int64_t begin, int64_t end) {
      const auto piece = [&](const Moments& of_m, const Moments& of_v) {
        return UpdatePiece{end - begin, 1, ptr(to) + begin, ptr(grad) + begin, of_m, of_v, 1e-3f, 0.01f, 3};
      };
      const UpdatePiece floats = piece({ptr(first) + begin}, {ptr(second) + begin});
      const UpdatePiece coded = piece(codes.m(begin), codes.root_v(begin));
      for (const UpdatePiece& each : {floats, coded}) run(level, pool, AdamW{0.9f, 0.999f, 1e-8f, 0.5f, {&each, 1}});
      for (const UpdatePiece& each : {floats, coded}) run(level, pool, Lion{0.9f, 0.99f, 0.5f, {&each, 1}});
    };
    update(p, m, v, whole, 0, count);
    update(split, m2, v2, parts, 0, cut);
    update(split, m2, v2, parts, cut, count);
    CHECK(p == split && m == m2 && v == v2);
    CHECK(whole.codes == parts.codes && whole.absmax == parts.absmax);
  });
}

TEST("numbers that lie apart are updated as those side by side, each with its own count, and no others") {
  constexpr int64_t kRows = 1300, kRank = 5;
  const std::vector<float> g = numbers(kRows * kRank, 1), m = numbers(kRows * kRank, 2);
  std::vector<float> v = numbers(kRows * kRank, 3);
  for (float& value : v) value = std::fabs(value);
  const std::vector<float> p = made(numbers(kRows * kRank, 4), [&](Ptr<float> at) {
    static std::vector<float> state[2];
    static std::vector<UpdatePiece> pieces;
    state[0] = m, state[1] = v, pieces.clear();
    for (const int64_t rank : {0, 1, 3})
      pieces.push_back({kRows,
                        kRank,
                        at + rank,
                        cpu::address_of(g.data()) + rank,
                        {cpu::address_of(state[0].data()) + rank},
                        {cpu::address_of(state[1].data()) + rank},
                        0.1f,
                        0.01f,
                        rank + 1});
    return AdamW{0.9f, 0.99f, 1e-8f, 0.5f, pieces};
  });
  const std::vector<float> before = numbers(kRows * kRank, 4);
  for (int64_t rank = 0; rank < kRank; ++rank) {
    const auto column = [&](const std::vector<float>& matrix) {
      std::vector<float> values(kRows);
      for (int64_t i = 0; i < kRows; ++i) values[i] = matrix[i * kRank + rank];
      return values;
    };
    std::vector<float> own = column(before), own_m = column(m), own_v = column(v);
    const std::vector<float> own_g = column(g);
    const UpdatePiece piece{kRows,
                            1,
                            cpu::address_of(own.data()),
                            cpu::address_of(own_g.data()),
                            {cpu::address_of(own_m.data())},
                            {cpu::address_of(own_v.data())},
                            0.1f,
                            0.01f,
                            rank + 1};
    if (rank != 2 && rank != 4) launch(1, AdamW{0.9f, 0.99f, 1e-8f, 0.5f, {&piece, 1}});
    CHECK(column(p) == own);
  }
}

}  // namespace lowrank::test
