// Attention and its gradients, every level and operand type, against a softmax written out in double.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "backends/cpu/attention/attention.h"
#include "ops_support.h"

namespace lowrank::test {
namespace {

constexpr int32_t kNoWindow = std::numeric_limits<int32_t>::max();

struct Lengths {
  std::vector<int32_t> queries, keys;
};
struct Heads {
  int32_t heads, kv_heads, dim;
};

std::vector<int32_t> cumulated(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> result{0};
  for (const int32_t length : lengths) result.push_back(result.back() + length);
  return result;
}

/// One problem and what the definition says about it.
struct Problem {
  Problem(DType type, Lengths sizes, Heads shape_of_heads, uint64_t seed, int32_t last = kNoWindow)
      : dtype(type),
        heads(shape_of_heads),
        window(last),
        scale(1.3f / std::sqrt(static_cast<float>(heads.dim))),
        random(seed),
        cu_q(cumulated(sizes.queries)),
        cu_k(cumulated(sizes.keys)),
        q(type, cu_q.back(), heads.heads * heads.dim, random),
        k(type, cu_k.back(), heads.kv_heads * heads.dim, random),
        v(type, cu_k.back(), heads.kv_heads * heads.dim, random),
        dout(type, cu_q.back(), heads.heads * heads.dim, random) {}
  lowrank::Heads shape() const { return {heads.heads, heads.kv_heads, heads.dim, window, scale}; }

  DType dtype;
  Heads heads;
  int32_t window;
  float scale;
  Random random;
  std::vector<int32_t> cu_q, cu_k;
  Tensor q, k, v, dout;
};

struct Expected {
  std::vector<double> out, lse, dq, dk, dv;
};

/// Softmax attention and its derivative by the definition: P, dP = dO V^T, dS = P (dP - sum P dP).
Expected by_definition(const Problem& p, const std::vector<double>& q, const std::vector<double>& k,
                       const std::vector<double>& v, const std::vector<double>& dout) {
  const int64_t d = p.heads.dim, heads = p.heads.heads, kv_heads = p.heads.kv_heads;
  Expected e{std::vector<double>(q.size()), std::vector<double>(static_cast<size_t>(p.cu_q.back() * heads), -INFINITY),
             std::vector<double>(q.size()), std::vector<double>(k.size()), std::vector<double>(v.size())};
  for (size_t s = 0; s + 1 < p.cu_q.size(); ++s) {
    const int64_t q0 = p.cu_q[s], nq = p.cu_q[s + 1] - q0, k0 = p.cu_k[s], nk = p.cu_k[s + 1] - k0;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = 0; i < nq; ++i) {
        const int64_t visible = nk - nq + i + 1;
        if (visible <= 0) continue;
        const int64_t first = std::max<int64_t>(visible - p.window, 0);
        const int64_t row = ((q0 + i) * heads + head) * d;
        const auto key = [&](int64_t j) { return ((k0 + j) * kv_heads + head / (heads / kv_heads)) * d; };
        std::vector<double> weights(visible, -INFINITY), slopes(visible);
        for (int64_t j = first; j < visible; ++j) {
          weights[j] = 0;
          for (int64_t c = 0; c < d; ++c) {
            weights[j] += p.scale * q[row + c] * k[key(j) + c];
            slopes[j] += dout[row + c] * v[key(j) + c];
          }
        }
        const double top = *std::max_element(weights.begin(), weights.end());
        double total = 0, mean = 0;
        for (double& weight : weights) total += weight = std::exp(weight - top);
        for (double& weight : weights) weight /= total;
        e.lse[(q0 + i) * heads + head] = top + std::log(total);
        for (int64_t j = first; j < visible; ++j) mean += weights[j] * slopes[j];
        for (int64_t j = first; j < visible; ++j) {
          const double ds = weights[j] * (slopes[j] - mean) * p.scale;
          for (int64_t c = 0; c < d; ++c) {
            e.out[row + c] += weights[j] * v[key(j) + c];
            e.dq[row + c] += ds * k[key(j) + c];
            e.dk[key(j) + c] += ds * q[row + c];
            e.dv[key(j) + c] += weights[j] * dout[row + c];
          }
        }
      }
    }
  }
  return e;
}
Expected by_definition(const Problem& p) {
  return by_definition(p, p.q.values(), p.k.values(), p.v.values(), p.dout.values());
}

struct Result {
  Tensor out, dq, dk, dv;
  std::vector<float> lse;
};

/// Attention alone: of all sequences where each has as many queries as keys, else of one after a cache after another.
void attend(cpu::Level level, Pool& pool, Problem& p, Tensor& out, Ptr<float> lse) {
  if (p.cu_q == p.cu_k) {
    run(level, pool, Attention{p.q.rows(), p.k.rows(), p.shape(), p.cu_q, p.q.at(), p.k.at(), p.v.at(), out.at(), lse});
    return;
  }
  for (size_t s = 0; s + 1 < p.cu_q.size(); ++s) {
    const int32_t q0 = p.cu_q[s], queries = p.cu_q[s + 1] - q0, k0 = p.cu_k[s], keys = p.cu_k[s + 1] - k0;
    const std::vector<int32_t> seqlens{0, queries};
    run(level, pool,
        Attention{queries, keys, p.shape(), seqlens, p.q.at().rows(q0), p.k.at().rows(k0), p.v.at().rows(k0),
                  out.at().rows(q0), lse ? lse + int64_t{q0} * p.heads.heads : lse});
  }
}

/// Gradients only where sequences have no cache.
Result compute(cpu::Level level, Problem& p, int threads) {
  Pool pool(threads);
  Result r{Tensor(p.dtype, p.q.rows(), p.q.cols()), Tensor(p.dtype, p.q.rows(), p.q.cols()),
           Tensor(p.dtype, p.k.rows(), p.k.cols()), Tensor(p.dtype, p.k.rows(), p.k.cols()),
           std::vector<float>(static_cast<size_t>(p.q.rows() * p.heads.heads))};
  attend(level, pool, p, r.out, ptr(r.lse));
  if (p.cu_q == p.cu_k)
    run(level, pool,
        AttentionBackward{p.q.rows(), p.shape(), p.cu_q, p.q.at(), p.k.at(), p.v.at(), r.out.at(), ptr(r.lse),
                          p.dout.at(), r.dq.at(), r.dk.at(), r.dv.at()});
  CHECK(r.out.spare_untouched());
  CHECK(r.dq.spare_untouched());
  CHECK(r.dk.spare_untouched());
  CHECK(r.dv.spare_untouched());
  return r;
}

/// Norm of the difference, relative to the expected norm or to half a unit per element, whichever is larger: a query
/// with one or two keys has a gradient of almost zero, left over from terms near one.
double error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / std::max(norm, 0.25 * static_cast<double>(expected.size())));
}

void check_against_definition(cpu::Level level, Problem& p) {
  const Expected e = by_definition(p);
  const Result r = compute(level, p, 2);
  // fp32: sums of a few hundred products. bf16: results, P and dS are rounded to 8 bits.
  const bool exact = p.dtype == DType::f32;
  CHECK_LE(error(r.out.values(), e.out), exact ? 1e-6 : 4e-3);
  if (p.cu_q == p.cu_k) {
    CHECK_LE(error(r.dq.values(), e.dq), exact ? 2e-6 : 8e-3);
    CHECK_LE(error(r.dk.values(), e.dk), exact ? 2e-6 : 8e-3);
    CHECK_LE(error(r.dv.values(), e.dv), exact ? 1e-6 : 6e-3);
  }
  for (size_t i = 0; i < e.lse.size(); ++i) {
    CHECK_LE(std::fabs(r.lse[i] - e.lse[i]), 1e-5);
  }
}

void check_everywhere(const std::vector<Lengths>& lengths, const std::vector<Heads>& heads,
                      const std::vector<int32_t>& windows = {kNoWindow}) {
  for_levels([&](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const Lengths& sizes : lengths) {
        for (const Heads& shape : heads) {
          for (const int32_t window : windows) {
            Problem problem(dtype, sizes, shape, 7, window);
            check_against_definition(level, problem);
          }
        }
      }
    }
  });
}

Lengths alike(std::vector<int32_t> lengths) { return {lengths, lengths}; }

}  // namespace

TEST("the derivative that attention is tested against agrees with finite differences") {
  const auto check = [](int32_t window) {
    Problem p(DType::f32, {{3, 5}, {3, 7}}, {4, 2, 6}, 3, window);
    std::vector<double> inputs[3] = {p.q.values(), p.k.values(), p.v.values()};
    const std::vector<double> dout = p.dout.values();
    const Expected e = by_definition(p, inputs[0], inputs[1], inputs[2], dout);
    const std::vector<double>* gradients[3] = {&e.dq, &e.dk, &e.dv};
    for (int which = 0; which < 3; ++which) {
      std::vector<double> numeric;
      for (double& value : inputs[which]) {
        const double saved = value;
        double loss[2];
        for (int side = 0; side < 2; ++side) {
          value = saved + (side == 0 ? 1e-5 : -1e-5);
          const Expected moved = by_definition(p, inputs[0], inputs[1], inputs[2], dout);
          loss[side] = std::inner_product(moved.out.begin(), moved.out.end(), dout.begin(), 0.0);
        }
        value = saved;
        numeric.push_back((loss[0] - loss[1]) / 2e-5);
      }
      CHECK_ALL_CLOSE(numeric, *gradients[which], 1e-8);
    }
  };
  check(kNoWindow);
  check(2);
}

TEST("attention and its gradients follow the definition for every length of a sequence around a tile") {
  check_everywhere({alike({1}), alike({2}), alike({15}), alike({17}), alike({63}), alike({64}), alike({65}),
                    alike({127}), alike({130}), alike({200})},
                   {{2, 1, 64}});
}

TEST("attention keeps packed sequences apart, whatever the group of query heads") {
  check_everywhere({alike({1, 70, 3, 64, 9})}, {{2, 2, 32}, {4, 2, 32}, {6, 2, 32}, {4, 1, 32}});
}

TEST("attention takes head sizes that fill no whole vector") {
  check_everywhere({alike({40, 33})}, {{2, 1, 1},
                                       {2, 1, 7},
                                       {2, 1, 16},
                                       {2, 1, 20},
                                       {2, 1, 24},
                                       {2, 1, 72},
                                       {2, 1, 80},
                                       {2, 1, 96},
                                       {2, 1, 128},
                                       {2, 1, 256}});
}

TEST("queries after a cache see all of it and each other's past") {
  check_everywhere({{{5, 64, 1, 70}, {70, 200, 90, 71}}}, {{4, 2, 64}, {2, 2, 20}});
}

TEST("single queries over caches of any length follow the definition") {
  check_everywhere({{{1}, {1}}, {{1}, {1000}}, {{1, 1, 1}, {1, 63, 700}}, {{1}, {257}}},
                   {{3, 1, 64}, {4, 4, 20}, {8, 1, 128}, {2, 1, 7}});
}

TEST("attention with a window follows the definition for lengths and windows around a tile") {
  check_everywhere({alike({1}), alike({63}), alike({64}), alike({65}), alike({129}), alike({200})}, {{2, 1, 64}},
                   {1, 2, 31, 63, 64, 65, 128, 130});
}

TEST("attention with a window keeps packed sequences apart, in groups of heads of any size") {
  check_everywhere({alike({1, 70, 3, 150, 9})}, {{2, 2, 32}, {4, 1, 32}, {2, 1, 7}, {2, 1, 20}, {2, 1, 128}},
                   {1, 5, 67});
}

TEST("queries after a cache see the last keys of their window") {
  check_everywhere({{{5, 64, 1, 70}, {70, 200, 90, 271}}}, {{4, 2, 64}, {2, 2, 20}}, {1, 40, 64, 90, 199});
}

TEST("single queries over caches see the last keys of their window") {
  check_everywhere({{{1}, {1}}, {{1}, {1000}}, {{1, 1, 1}, {1, 63, 700}}, {{1}, {257}}},
                   {{4, 2, 64}, {8, 1, 128}, {2, 1, 7}}, {1, 64, 300});
}

TEST("a window as wide as the longest sequence changes no bit") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const Lengths& sizes : {alike({130, 1, 77}), Lengths{{70, 1}, {130, 20}}, Lengths{{1}, {130}}}) {
        Problem without(dtype, sizes, {4, 2, 64}, 23), with(dtype, sizes, {4, 2, 64}, 23, 130);
        const Result a = compute(level, without, 2), b = compute(level, with, 2);
        CHECK(a.out == b.out);
        CHECK(a.lse == b.lse);
        CHECK(a.dq == b.dq);
        CHECK(a.dk == b.dk);
        CHECK(a.dv == b.dv);
      }
    }
  });
}

TEST("keys before every window are not even read") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const int32_t queries : {1, 70}) {
        const int32_t window = 65, keys = 700;
        Problem clean(dtype, {{queries}, {keys}}, {4, 2, 64}, 29, window), poisoned = clean;
        const int64_t first = keys - queries + 1 - window;
        for (int64_t row = 0; row < first / cpu::kTile * cpu::kTile; ++row) {
          for (int64_t col = 0; col < poisoned.k.cols(); ++col) {
            poisoned.k.set(row, col, NAN);
            poisoned.v.set(row, col, NAN);
          }
        }
        const Result a = compute(level, clean, 2), b = compute(level, poisoned, 2);
        CHECK(a.out == b.out);
      }
    }
  });
}

TEST("attention has the same bits for one, two and three threads") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const Lengths& sizes : {alike({130, 1, 77}), Lengths{{1}, {900}}}) {
        for (const int32_t window : {kNoWindow, 70}) {
          Problem p(dtype, sizes, {6, 2, 64}, 11, window);
          const Result one = compute(level, p, 1);
          for (int threads = 2; threads <= 3; ++threads) {
            const Result other = compute(level, p, threads);
            CHECK(one.out == other.out);
            CHECK(one.lse == other.lse);
            CHECK(one.dq == other.dq);
            CHECK(one.dk == other.dk);
            CHECK(one.dv == other.dv);
          }
        }
      }
    }
  });
}

TEST("heads that share keys have the bits that each has alone, for any number of queries after a cache") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const Heads heads : {Heads{6, 2, 64}, Heads{8, 1, 32}}) {
        for (const int32_t queries : {2, 7, 10, 15, 16, 17, 24, 25, 60}) {
          for (const int32_t window : {kNoWindow, 70}) {
            Problem p(dtype, {{queries}, {queries + 150}}, heads, 12, window);
            const Result together = compute(level, p, 1);
            Pool pool(1);
            Tensor out(dtype, p.q.rows(), p.q.cols());
            std::vector<float> lse(static_cast<size_t>(queries));
            const std::vector<int32_t> seqlens{0, queries};
            for (int32_t head = 0; head < heads.heads; ++head) {
              const int64_t at = int64_t{head} * heads.dim, kv_at = head / (heads.heads / heads.kv_heads) * heads.dim;
              run(level, pool,
                  Attention{queries,
                            p.k.rows(),
                            {1, 1, heads.dim, window, p.scale},
                            seqlens,
                            p.q.at().columns(at),
                            p.k.at().columns(kv_at),
                            p.v.at().columns(kv_at),
                            out.at().columns(at),
                            ptr(lse)});
              for (int32_t i = 0; i < queries; ++i) CHECK(lse[i] == together.lse[i * heads.heads + head]);
            }
            CHECK(out == together.out);
          }
        }
      }
    }
  });
}

TEST("the gradient of the queries may replace the queries") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      Problem p(dtype, alike({130, 20}), {4, 2, 64}, 13);
      const Result apart = compute(level, p, 2);
      Pool pool(2);
      Tensor out = apart.out, dk = apart.dk, dv = apart.dv;
      run(level, pool,
          AttentionBackward{p.q.rows(), p.shape(), p.cu_q, p.q.at(), p.k.at(), p.v.at(), out.at(), ptr(apart.lse),
                            p.dout.at(), p.q.at(), dk.at(), dv.at()});
      CHECK(p.q == apart.dq);
      CHECK(dk == apart.dk);
      CHECK(dv == apart.dv);
    }
  });
}

TEST("attention without a log-sum-exp gives the same output") {
  for_levels([](cpu::Level level) {
    for (const Lengths& sizes : {alike({70}), Lengths{{1}, {600}}}) {
      Problem p(DType::f32, sizes, {2, 1, 64}, 17);
      const Result with = compute(level, p, 2);
      Pool pool(2);
      Tensor out(DType::f32, p.q.rows(), p.q.cols());
      attend(level, pool, p, out, {});
      CHECK(out == with.out);
    }
  });
}

TEST("large scores neither overflow nor lose the largest key") {
  for_levels([](cpu::Level level) {
    Problem p(DType::f32, alike({100}), {2, 1, 64}, 19);
    p.scale = 30.0f;  // scores of several hundred
    const Expected e = by_definition(p);
    const Result r = compute(level, p, 1);
    CHECK_ALL_CLOSE(r.out.values(), e.out, 1e-4);
    CHECK_ALL_CLOSE(r.dv.values(), e.dv, 1e-4);
  });
}

TEST("the softmax of enormous scores is still a softmax") {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for_levels([&](cpu::Level level) {
      Problem p(dtype, alike({100}), {2, 1, 64}, 20);
      p.scale = 1e8f;  // fp32 numbers of this size lie hundreds apart
      const auto out = compute(level, p, 1).out.values();
      CHECK(std::all_of(out.begin(), out.end(), [](auto value) { return std::fabs(value) < 10; }));
    });
  }
}

}  // namespace lowrank::test
