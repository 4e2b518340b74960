#include "adapters/pair_term.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/table.h"
#include "check.h"
#include "core/error.h"
#include "core/factors.h"
#include "host.h"
#include "values.h"

using namespace lowrank;
using test::check_gradients;
using test::fill_all;
using test::gradient_of;
using test::value_of;

namespace {

constexpr int64_t kOut = 7, kIn = 5, kFirst = 2, kSecond = 3, kRank = kFirst * kSecond;

void draw_row_gains(const DeltaDropout& dropout, uint64_t key, int64_t rows, float* gains) {
  Pool pool(1);
  cpu::reference({pool, nullptr},
                 DrawRows{rows, dropout.rows, dropout.all, dropout.rescale, key, cpu::address_of(gains)});
}

AdapterSpec pair() {
  AdapterSpec spec;
  spec.trainable = true;
  spec.parameters = {
      {"a", kFirst, kIn, true}, {"b", kOut, kFirst, true}, {"a2", kSecond, kIn, true}, {"b2", kOut, kSecond, true}};
  spec.terms = {{"pair", "linear", {{"a", 0}, {"b", 1}, {"a2", 2}, {"b2", 3}}, {{"rank", kRank}, {"scale", 0.5}}}};
  return spec;
}

Pair pair_of(const HostAdapter& adapter) {
  return {kOut,
          kIn,
          kFirst,
          kSecond,
          value_of(adapter, 1),
          value_of(adapter, 0),
          value_of(adapter, 3),
          value_of(adapter, 2)};
}

/// scale * gain_o (b a) . (b2 a2) in double, as the paper writes it.
std::vector<double> literal(const HostAdapter& adapter, const float* gains) {
  std::vector<double> delta(kOut * kIn);
  const auto product = [&](int b, int a, int64_t rank, int64_t o, int64_t c) {
    double sum = 0;
    for (int64_t i = 0; i < rank; ++i) sum += double{adapter.data(b)[o * rank + i]} * adapter.data(a)[i * kIn + c];
    return sum;
  };
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t c = 0; c < kIn; ++c)
      delta[o * kIn + c] = 0.5 * (gains ? gains[o] : 1) * product(1, 0, kFirst, o, c) * product(3, 2, kSecond, o, c);
  return delta;
}

/// The folded B times A.
std::vector<double> composed(const HostAdapter& adapter, const float* gains) {
  std::vector<float> a(kRank * kIn), b(kOut * kRank);
  pair_a_rows(adapter.data(0), adapter.data(2), kSecond, kIn, 0, kRank, a.data());
  fold_pair_rows({kFirst, kSecond, 0.5f, 1, adapter.data(1), adapter.data(3), gains}, 0, kOut, b.data());
  std::vector<double> delta(kOut * kIn);
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t j = 0; j < kRank; ++j)
      for (int64_t c = 0; c < kIn; ++c) delta[o * kIn + c] += double{b[o * kRank + j]} * a[j * kIn + c];
  return delta;
}

}  // namespace

TEST("the face-splitting factors of a pair multiply to the Hadamard product of its two products") {
  HostAdapter adapter(pair());
  fill_all(adapter);
  const float gains[kOut] = {1, 0, 2, 1, 0.5f, 1, 0};
  for (const float* g : {static_cast<const float*>(nullptr), gains}) {
    const std::vector<double> expected = literal(adapter, g), made = composed(adapter, g);
    for (size_t i = 0; i < made.size(); ++i) CHECK(std::fabs(made[i] - expected[i]) < 1e-5);
  }
}

TEST("the gradients of a pair's A and B spread over its four factors as finite differences say") {
  HostAdapter adapter(pair());
  fill_all(adapter);
  const float gains[kOut] = {1, 0, 2, 1, 0.5f, 1, 0};
  std::vector<float> g(kOut * kIn), a(kRank * kIn), b(kOut * kRank);
  fill_normal(g.data(), kOut * kIn, 1, 3, "g");
  pair_a_rows(adapter.data(0), adapter.data(2), kSecond, kIn, 0, kRank, a.data());
  fold_pair_rows({kFirst, kSecond, 0.5f, 1, adapter.data(1), adapter.data(3), gains}, 0, kOut, b.data());
  // loss = <g, B A>: at A the gradient is B^T g, at B without scale and gains g A^T.
  std::vector<float> at_a(kRank * kIn), at_b(kOut * kRank);
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t j = 0; j < kRank; ++j)
      for (int64_t c = 0; c < kIn; ++c) {
        at_a[j * kIn + c] += b[o * kRank + j] * g[o * kIn + c];
        at_b[o * kRank + j] += g[o * kIn + c] * a[j * kIn + c];
      }
  Pool pool(2);
  cpu::reference({pool, nullptr}, SpreadPairA{pair_of(adapter), cpu::address_of(at_a.data()), gradient_of(adapter, 0),
                                              gradient_of(adapter, 2)});
  cpu::reference({pool, nullptr},
                 SpreadPairB{pair_of(adapter), 0.5f, cpu::address_of(gains), cpu::address_of(at_b.data()),
                             gradient_of(adapter, 1), gradient_of(adapter, 3)});
  check_gradients(adapter, {0, 1, 2, 3}, 2e-5, [&] {
    const std::vector<double> delta = literal(adapter, gains);
    double sum = 0;
    for (size_t i = 0; i < delta.size(); ++i) sum += g[i] * delta[i];
    return sum;
  });
}

TEST("rows of a change are dropped with the asked probability, the same for the same key, and rescaled on request") {
  std::vector<float> gains(4000), again(4000);
  draw_row_gains({0.25f, 0, false}, 1, 4000, gains.data());
  draw_row_gains({0.25f, 0, false}, 1, 4000, again.data());
  CHECK(gains == again);
  double sum = 0;
  for (const float gain : gains) {
    CHECK(gain == 0 || gain == 1);
    sum += gain;
  }
  CHECK(std::fabs(sum / 4000 - 0.75) < 0.03);
  draw_row_gains({0.25f, 0, true}, 1, 4000, again.data());
  for (int i = 0; i < 4000; ++i) CHECK(std::fabs(again[i] - gains[i] / (sum / 4000)) < 1e-6);
  draw_row_gains({0.25f, 0, false}, 2, 4000, again.data());
  CHECK(gains != again);
}

TEST("a whole change is dropped with the asked probability, and dropping every row is no division by zero") {
  int dropped = 0;
  for (uint64_t key = 0; key < 4000; ++key) {
    float gains[3];
    draw_row_gains({0, 0.25f, true}, key * 0x9e3779b97f4a7c15u, 3, gains);
    CHECK(gains[0] == gains[1] && gains[1] == gains[2]);
    dropped += gains[0] == 0;
  }
  CHECK(std::abs(dropped - 1000) < 100);
  float gains[2];
  draw_row_gains({0.999999f, 0, true}, 1, 2, gains);
  CHECK_EQ(gains[0], 0.0f);
  CHECK_EQ(gains[1], 0.0f);
}

TEST("a pair whose factors do not fit each other is refused by name") {
  AdapterSpec spec = pair();
  spec.parameters[3].cols = 2;
  CHECK_THROWS(HostAdapter(spec), "a pair of products [7, 2] x [2, 5] and [7, 2] x [3, 5] at rank 6");
  spec = pair();
  spec.terms[0].numbers["rank"] = 5;
  CHECK_THROWS(HostAdapter(spec), "at rank 5");
  spec = pair();
  spec.terms[0].parameters.erase("b2");
  CHECK_THROWS(HostAdapter(spec), "pair needs b2");
  spec = pair();
  spec.terms[0].numbers["dropout"] = 0.5;
  CHECK_THROWS(HostAdapter(spec), "pair has no number 'dropout'");
  const HostAdapter adapter(pair());
  const PairTerm term(adapter.spec(), 0, {-1, kOut, kIn});
  CHECK_THROWS(term.delta_rows(adapter, 1, 1), "a pair of products needs the full rank of 6, not 1");
  CHECK(term.delta_rows(adapter, 1, 0) != nullptr);
  spec = pair();
  spec.terms[0].numbers["rank"] = 1e12;
  CHECK_THROWS(HostAdapter(spec), "expected 1 to 16777216");
  spec = pair();
  spec.terms[0].numbers["rowDropout"] = 1;
  CHECK_THROWS(HostAdapter(spec), "dropout of its change is 1");
}

TEST("dropped rows of linears whose keys are neighbors have no run in common") {
  constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;  // what the draws of one key are apart
  constexpr int64_t kRows = 256;
  std::vector<float> one(kRows), other(kRows);
  draw_row_gains({0.5f, 0, false}, 7 * kStep, kRows, one.data());
  for (int64_t shift = -64; shift <= 64; ++shift) {
    draw_row_gains({0.5f, 0, false}, static_cast<uint64_t>(7 + shift) * kStep, kRows, other.data());
    if (shift == 0) {
      CHECK(one == other);
      continue;
    }
    int64_t same = 0, count = 0;
    for (int64_t i = std::max<int64_t>(0, shift); i < std::min(kRows, kRows + shift); ++i, ++count)
      same += one[i] == other[i - shift];
    CHECK(same < count * 3 / 4);
  }
}
