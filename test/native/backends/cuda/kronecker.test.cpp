// Products with Kronecker products on CUDA against float64 and the CPU's reference.
#include <algorithm>

#include "backends/cuda/against_cpu.h"

namespace lowrank::cuda {
namespace {

struct Shape {
  int64_t tokens, l, p, k, q, rank;
};

// Both orders of the factors, with and without a rank.
const Shape kShapes[] = {{1, 1, 1, 1, 1, 0},  {7, 4, 2, 9, 5, 0},  {3, 2, 7, 3, 20, 0},  {65, 8, 8, 16, 17, 0},
                         {5, 20, 3, 6, 4, 3}, {9, 3, 20, 4, 6, 2}, {2, 33, 34, 3, 2, 0}, {3, 2, 3, 70, 40, 8}};

using Numbers = std::vector<double>;

Numbers numbers(const Tensor& t) {
  Numbers all;
  for (int64_t row = 0; row < t.rows(); ++row)
    for (int64_t col = 0; col < t.cols(); ++col) all.push_back(t(row, col));
  return all;
}

/// Results and gradients, which add to what was there.
struct Results {
  Numbers y, dc, dd, dd2, dx;
};

void by_definition(const Shape& s, const Tensor& c, const Tensor& d, const Tensor& d2, const Numbers& gains,
                   const Tensor& x, const Tensor& dy, Results& to) {
  const auto whole = [&](int64_t j, int64_t b) {  // D
    double sum = s.rank > 0 ? 0 : d(j, b);
    for (int64_t i = 0; i < s.rank; ++i) sum += d(j, i) * d2(i, b);
    return sum;
  };
  for (int64_t t = 0; t < s.tokens; ++t)
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t j = 0; j < s.k; ++j) {
        const int64_t o = i * s.k + j;
        const double g = gains[o] * dy(t, o);
        for (int64_t a = 0; a < s.p; ++a)
          for (int64_t b = 0; b < s.q; ++b) {
            const double in = x(t, a * s.q + b), to_d = g * c(i, a) * in;
            to.y[t * s.l * s.k + o] += gains[o] * c(i, a) * whole(j, b) * in;
            to.dc[i * s.p + a] += g * whole(j, b) * in;
            to.dx[t * s.p * s.q + a * s.q + b] += g * c(i, a) * whole(j, b);
            if (s.rank == 0) to.dd[j * s.q + b] += to_d;
            for (int64_t r = 0; r < s.rank; ++r) {
              to.dd[j * s.rank + r] += to_d * d2(r, b);
              to.dd2[r * s.q + b] += to_d * d(j, r);
            }
          }
      }
}

TEST("CUDA multiplies by a Kronecker product, and its gradients equal float64") {
  for_each_execution([](Runner& run) {
    test::Random random(8);
    for (const Shape& shape : kShapes)
      for (const DType type : {DType::f32, DType::bf16})
        for (const bool all : {true, false}) {
          const auto& [tokens, l, p, k, q, rank] = shape;
          const int64_t in = p * q, out = l * k, d_cols = rank > 0 ? rank : q;
          const Tensor c(run, DType::f32, l, p, random), d(run, DType::f32, k, d_cols, random);
          const Tensor d2(run, DType::f32, std::max<int64_t>(rank, 1), q, random);
          const Tensor gain(run, DType::f32, 1, out, random);
          const KroneckerPair pair{{l, p, k, q, rank}, c.floats(), d.floats(), rank > 0 ? d2.floats() : Ptr<float>()};
          const Ptr<float> gains = all ? gain.floats() : Ptr<float>();
          const Tensor x(run, type, tokens, in, random, 1, 3), dy(run, type, tokens, out, random, 1, 5);
          const Tensor y(run, DType::f32, tokens, out, random), dc(run, DType::f32, l, p, random);
          const Tensor dd(run, DType::f32, k, d_cols, random), dd2(run, DType::f32, d2.rows(), q, random);
          const Tensor dx(run, DType::f32, tokens, in, random);
          Results e{numbers(y), numbers(dc), numbers(dd), numbers(dd2), numbers(dx)};
          if (!all) e.y.assign(e.y.size(), 0), e.dx.assign(e.dx.size(), 0);
          Numbers scaled(out, 0.6f);
          for (int64_t o = 0; all && o < out; ++o) scaled[o] *= gain(0, o);
          by_definition(shape, c, d, d2, scaled, x, dy, e);

          run_on_cuda(run,
                      Kronecker{tokens, pair, 0.6f, gains, x.matrix(), all ? y.floats() : Ptr<float>(), y.floats()});
          CHECK_ALL_CLOSE(numbers(y), e.y, 2e-6);
          KroneckerBackward back{tokens,      pair,        0.6f,
                                 gains,       x.matrix(),  dy.matrix(),
                                 dc.floats(), dd.floats(), rank > 0 ? dd2.floats() : Ptr<float>(),
                                 dx.floats(), all};
          run_on_cuda(run, back);
          CHECK_ALL_CLOSE(numbers(dc), e.dc, 2e-6);
          CHECK_ALL_CLOSE(numbers(dd), e.dd, 2e-6);
          CHECK_ALL_CLOSE(numbers(dd2), e.dd2, 2e-6);
          CHECK_ALL_CLOSE(numbers(dx), e.dx, 2e-6);

          // Only what is asked for.
          const Numbers before = numbers(dx);
          back.dc = back.dx = {};
          run_on_cuda(run, back);
          CHECK(numbers(dx) == before);
          CHECK_ALL_CLOSE(numbers(dc), e.dc, 2e-6);
        }
  });
}

TEST("CUDA's Kronecker products and their gradients equal the CPU's") {
  for_each_execution([](Runner& run) {
    test::Random random(12);
    const Shape& s = kShapes[3];
    const Tensor c(run, DType::f32, s.l, s.p, random), d(run, DType::f32, s.k, s.q, random);
    const KroneckerPair pair{{s.l, s.p, s.k, s.q, 0}, c.floats(), d.floats(), {}};
    const Tensor x(run, DType::bf16, s.tokens, s.p * s.q, random), dy(run, DType::f32, s.tokens, s.l * s.k, random);
    const Twin y(run, DType::f32, s.tokens, s.l * s.k), dx(run, DType::f32, s.tokens, s.p * s.q);
    const Twin dc(run, DType::f32, s.l, s.p, random), dd(run, DType::f32, s.k, s.q, random);
    run_on_both(run, [&](bool cuda) { return Kronecker{s.tokens, pair, 1, {}, x.matrix(), {}, y.floats(cuda)}; });
    run_on_both(run, [&](bool cuda) {
      return KroneckerBackward{
          s.tokens, pair, 1, {}, x.matrix(), dy.matrix(), dc.floats(cuda), dd.floats(cuda), {}, dx.floats(cuda), false};
    });
    // The CPU's reference sums in fp32 as well.
    for (const Twin* const twin : {&y, &dx, &dc, &dd}) CHECK_LE(twin->error(), 6e-6);
  });
}

TEST("CUDA multiplies the factors of C, and spreads its gradient over them") {
  for_each_execution([](Runner& run) {
    test::Random random(9);
    for (const auto& [l, rank, p] : {std::array<int64_t, 3>{1, 1, 1}, {8, 3, 9}, {65, 16, 40}}) {
      const Tensor a(run, DType::f32, l, rank, random), b(run, DType::f32, rank, p, random);
      const Tensor g(run, DType::f32, l, p, random);
      const Twin c(run, DType::f32, l, p), da(run, DType::f32, l, rank, random), db(run, DType::f32, rank, p, random);
      run_on_both(run, [&](bool cuda) { return KroneckerC{l, rank, p, a.floats(), b.floats(), c.floats(cuda)}; });
      CHECK_LE(c.error(), 1e-7);
      run_on_both(run, [&](bool cuda) {
        return SpreadKroneckerC{l, rank, p, a.floats(), b.floats(), g.floats(), da.floats(cuda), db.floats(cuda)};
      });
      CHECK_LE(da.error(), 2e-6);
      CHECK_LE(db.error(), 2e-6);
      run_on_both(run, [&](bool cuda) {
        return SpreadKroneckerC{l, rank, p, a.floats(), b.floats(), g.floats(), {}, db.floats(cuda)};
      });
      CHECK_LE(db.error(), 2e-6);
    }
  });
}

}  // namespace
}  // namespace lowrank::cuda
