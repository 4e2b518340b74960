// Attention and its gradients on CUDA against a softmax in float64.
#include <algorithm>
#include <limits>

#include "backends/cuda/bench.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/tensor.h"

namespace lowrank::cuda {
namespace {

struct Shape {
  int32_t heads, kv_heads, dim;
};

/// Sequences of tokens; with a cache, one whose keys are more.
struct Problem {
  Problem(Runner& run, DType type, std::vector<int32_t> lengths, Shape s, int32_t window = 0, int64_t past = 0)
      : random(7),
        seqlens{0},
        heads{s.heads, s.kv_heads, s.dim, window, 1.3f / std::sqrt(static_cast<float>(s.dim))},
        tokens(sum(lengths)),
        keys(tokens + past),
        q(run, type, tokens, int64_t{s.heads} * s.dim, random, 1, 8),
        k(run, type, keys, int64_t{s.kv_heads} * s.dim, random, 1, 8),
        v(run, type, keys, int64_t{s.kv_heads} * s.dim, random, 1, 16),
        dout(run, type, tokens, int64_t{s.heads} * s.dim, random, 1, 8),
        out(run, type, tokens, int64_t{s.heads} * s.dim, 16),
        dq(run, type, tokens, int64_t{s.heads} * s.dim, 8),
        dk(run, type, keys, int64_t{s.kv_heads} * s.dim, 8),
        dv(run, type, keys, int64_t{s.kv_heads} * s.dim, 8),
        lse(run, DType::f32, tokens, s.heads),
        positions(address_of(run.buffer(std::vector<int32_t>{static_cast<int32_t>(past)}))) {
    for (const int32_t length : lengths) seqlens.push_back(seqlens.back() + length);
  }
  static int64_t sum(const std::vector<int32_t>& lengths) {
    int64_t all = 0;
    for (const int32_t length : lengths) all += length;
    return all;
  }
  Attention forward() const {
    return {tokens,     keys,       heads,        seqlens,      q.matrix(),
            k.matrix(), v.matrix(), out.matrix(), lse.floats(), counted_on_card ? positions : Ptr<int32_t>()};
  }
  AttentionBackward backward() const {
    return {tokens,       heads,        seqlens,       q.matrix(),  k.matrix(),  v.matrix(),
            out.matrix(), lse.floats(), dout.matrix(), dq.matrix(), dk.matrix(), dv.matrix()};
  }

  test::Random random;
  std::vector<int32_t> seqlens;
  Heads heads;
  int64_t tokens, keys;
  Tensor q, k, v, dout, out, dq, dk, dv, lse;
  Ptr<int32_t> positions;
  bool counted_on_card = false;  // the keys
};

struct Expected {
  std::vector<double> out, lse, dq, dk, dv;
};

Expected by_definition(const Problem& p) {
  const int64_t d = p.heads.head_dim, heads = p.heads.heads, kv_heads = p.heads.kv_heads, past = p.keys - p.tokens;
  const int64_t window = p.heads.window > 0 ? p.heads.window : std::numeric_limits<int32_t>::max();
  Expected e{std::vector<double>(p.tokens * heads * d), std::vector<double>(p.tokens * heads),
             std::vector<double>(p.tokens * heads * d), std::vector<double>(p.keys * kv_heads * d),
             std::vector<double>(p.keys * kv_heads * d)};
  for (size_t s = 0; s + 1 < p.seqlens.size(); ++s)
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t begin = p.seqlens[s], kv = head / (heads / kv_heads);
      for (int64_t i = 0; i < p.seqlens[s + 1] - begin; ++i) {
        const int64_t visible = past + i + 1, first = std::max<int64_t>(visible - window, 0), row = begin + i;
        std::vector<double> weights(visible), slopes(visible);
        double top = -INFINITY, total = 0, mean = 0;
        for (int64_t j = first; j < visible; ++j) {
          for (int64_t c = 0; c < d; ++c) {
            weights[j] += p.heads.scale * p.q(row, head * d + c) * p.k(begin + j, kv * d + c);
            slopes[j] += p.dout(row, head * d + c) * p.v(begin + j, kv * d + c);
          }
          top = std::max(top, weights[j]);
        }
        for (int64_t j = first; j < visible; ++j) total += weights[j] = std::exp(weights[j] - top);
        e.lse[row * heads + head] = top + std::log(total);
        for (int64_t j = first; j < visible; ++j) mean += (weights[j] /= total) * slopes[j];
        for (int64_t j = first; j < visible; ++j) {
          const double ds = weights[j] * (slopes[j] - mean) * p.heads.scale;
          for (int64_t c = 0; c < d; ++c) {
            e.out[(row * heads + head) * d + c] += weights[j] * p.v(begin + j, kv * d + c);
            e.dq[(row * heads + head) * d + c] += ds * p.k(begin + j, kv * d + c);
            e.dk[((begin + j) * kv_heads + kv) * d + c] += ds * p.q(row, head * d + c);
            e.dv[((begin + j) * kv_heads + kv) * d + c] += weights[j] * p.dout(row, head * d + c);
          }
        }
      }
    }
  return e;
}

/// Norm of the difference, relative to the expected norm or to half a unit per element: a query with one or two keys
/// has a gradient of almost zero, left over from terms near one.
double error(const Tensor& actual, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = actual(static_cast<int64_t>(i) / actual.cols(), static_cast<int64_t>(i) % actual.cols());
    difference += (a - expected[i]) * (a - expected[i]);
    norm += expected[i] * expected[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / std::max(norm, 0.25 * static_cast<double>(expected.size())));
}

void launch(Runner& run, const Problem& p, bool backward) {
  const Attention forward = p.forward();
  lowrank::cuda::run(run, forward, address_of(run.buffer<std::byte>(workspace(run.card(), forward))));
  if (!backward) return;
  const AttentionBackward back = p.backward();
  lowrank::cuda::run(run, back, address_of(run.buffer<std::byte>(workspace(run.card(), back))));
}

void check(Runner& run, const Problem& p, bool backward) {
  const Expected e = by_definition(p);
  launch(run, p, backward);
  // bf16: results, weights and their gradients are rounded.
  const bool exact = p.q.matrix().dtype == DType::f32;
  CHECK_LE(error(p.out, e.out), exact ? 2e-6 : 0x1p-8);
  CHECK(p.out.spare_untouched());
  for (int64_t row = 0; row < p.tokens; ++row)
    for (int64_t head = 0; head < p.heads.heads; ++head)
      CHECK_LE(std::fabs(p.lse(row, head) - e.lse[row * p.heads.heads + head]), 1e-5);
  if (!backward) return;
  CHECK_LE(error(p.dq, e.dq), exact ? 2e-6 : 8e-3);
  CHECK_LE(error(p.dk, e.dk), exact ? 2e-6 : 8e-3);
  CHECK_LE(error(p.dv, e.dv), exact ? 2e-6 : 6e-3);
  for (const Tensor* const m : {&p.dq, &p.dk, &p.dv}) CHECK(m->spare_untouched());
}

void check_everywhere(const std::vector<std::vector<int32_t>>& lengths, const std::vector<Shape>& shapes,
                      const std::vector<int32_t>& windows = {0}) {
  for_each_execution([&](Runner& run) {
    for (const DType type : {DType::f32, DType::bf16})
      for (const auto& sequences : lengths)
        for (const Shape& shape : shapes)
          for (const int32_t window : windows) check(run, Problem(run, type, sequences, shape, window), true);
  });
}

TEST("CUDA's attention and its gradients equal float64 for every length around a tile") {
  check_everywhere({{1}, {2}, {17}, {63}, {64}, {65}, {129}}, {{2, 1, 64}});
}

TEST("CUDA's attention keeps packed sequences apart, empty ones among them, in groups of any size") {
  check_everywhere({{1, 70, 0, 3, 9, 0}}, {{1, 1, 32}, {6, 2, 32}, {8, 1, 16}});
}

TEST("CUDA's attention takes heads of any size") {
  check_everywhere({{33, 5}},
                   {{2, 1, 7}, {2, 1, 16}, {2, 1, 20}, {2, 1, 80}, {2, 1, 128}, {2, 1, 192}, {2, 1, 256}, {2, 1, 264}});
}

TEST("CUDA's attention with a window equals float64") {
  check_everywhere({{131, 9}}, {{2, 1, 32}}, {1, 63, 64});
  check_everywhere({{70}}, {{2, 1, 128}, {2, 1, 256}, {2, 1, 20}}, {5});
}

TEST("CUDA's queries after a cache see all of it, or the keys of their window") {
  struct Cache {
    int32_t queries, past, window;
  };
  for_each_execution([](Runner& run) {
    for (const DType type : {DType::f32, DType::bf16}) {
      for (const auto& [queries, past, window] : {Cache{1, 1, 0}, {1, 127, 1}, {3, 140, 90}, {70, 131, 90}})
        for (const Shape& shape : {Shape{4, 2, 64}, {8, 1, 40}, {2, 2, 20}})
          check(run, Problem(run, type, {queries}, shape, window, past), false);
      for (const auto& [queries, past, window] : {Cache{1, 700, 0}, {3, 300, 0}, {70, 5, 0}})
        check(run, Problem(run, type, {queries}, {4, 2, 64}, window, past), false);
    }
    Problem counted(run, DType::bf16, {1}, {1, 1, 128}, 0, 9000);
    check(run, counted, false);
    std::vector<double> before;
    for (int64_t col = 0; col < counted.out.cols(); ++col) before.push_back(counted.out(0, col));
    counted.counted_on_card = true;
    check(run, counted, false);
    for (int64_t col = 0; col < counted.out.cols(); ++col)
      CHECK(counted.out(0, col) == before[static_cast<size_t>(col)]);
    check(run, Problem(run, DType::bf16, {1}, {1, 1, 256}, 300, 9000), false);
  });
}

TEST("CUDA appends keys and values to a cache as the CPU does") {
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t cols : {24, 20, 2056})
      for (const int64_t tokens : {1, 5})
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix k = bench.matrix(type, tokens, cols), v = bench.matrix(type, tokens, cols);
              const Matrix cached_k = bench.matrix(type, 12, cols), cached_v = bench.matrix(type, 12, cols);
              return AppendToCache{tokens, 6, cols, bench.ints({6}), k, v, cached_k.rows(6), cached_v.rows(6)};
            },
            kSameBits);
}

TEST("CUDA's keys outside of every window are not even read") {
  for_each_execution([](Runner& run) {
    for (const DType type : {DType::f32, DType::bf16})
      for (const int32_t queries : {1, 70}) {
        Problem clean(run, type, {queries}, {4, 2, 64}, 65, 700 - queries),
            poisoned(run, type, {queries}, {4, 2, 64}, 65, 700 - queries);
        for (int64_t row = 0; row < (700 - queries + 1 - 65) / 64 * 64; ++row)
          for (int64_t col = 0; col < poisoned.k.cols(); ++col) {
            poisoned.k.set(row, col, NAN);
            poisoned.v.set(row, col, NAN);
          }
        launch(run, clean, false);
        launch(run, poisoned, false);
        for (int64_t row = 0; row < queries; ++row)
          for (int64_t col = 0; col < clean.out.cols(); ++col) CHECK(clean.out(row, col) == poisoned.out(row, col));
      }
  });
}

TEST("the gradient of CUDA's queries may replace the queries") {
  for_each_execution([](Runner& run) {
    for (const DType type : {DType::f32, DType::bf16})
      for (const int32_t dim : {64, 20}) {
        const Problem apart(run, type, {67, 3}, {2, 1, dim}), over(run, type, {67, 3}, {2, 1, dim});
        launch(run, apart, true);
        launch(run, over, false);
        AttentionBackward back = over.backward();
        back.dq = back.q;
        lowrank::cuda::run(run, back, address_of(run.buffer<std::byte>(workspace(run.card(), back))));
        for (int64_t row = 0; row < apart.tokens; ++row)
          for (int64_t col = 0; col < apart.dq.cols(); ++col) CHECK(apart.dq(row, col) == over.q(row, col));
      }
  });
}

TEST("CUDA's attention has the same bits in every execution") {
  for (const int64_t past : {0, 300}) {
    std::vector<std::byte> first;
    for_each_execution([&](Runner& run) {
      const Problem p(run, DType::bf16, {past > 0 ? 2 : 130}, {4, 2, 64}, 0, past);
      launch(run, p, past == 0);
      std::vector<std::byte> bits;
      for (const Tensor* const m : {&p.out, &p.dq, &p.dk, &p.dv})
        bits.insert(bits.end(), m->bytes(), m->bytes() + m->rows() * m->matrix().ld * 2);
      if (first.empty()) first = bits;
      if (run.name().rfind("emulated", 0) == 0) CHECK(first == bits);
    });
  }
}

TEST("a workspace for attention never shrinks with the shape") {
  const Card card;
  const Heads heads{8, 2, 64, 0, 1};
  int64_t before = 0;
  for (const int64_t tokens : {1, 2, 8, 63, 500, 4096}) {
    Attention k{};
    k.shape = heads;
    k.tokens = tokens;
    k.keys = 4096;
    CHECK(workspace(card, k) >= before);
    before = workspace(card, k);
  }
}

}  // namespace
}  // namespace lowrank::cuda
