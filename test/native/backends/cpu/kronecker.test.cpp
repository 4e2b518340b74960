// Products with a Kronecker product at every level, against their definition in double precision.
#include "backends/cpu/adapters/kronecker.h"

#include "backends/cpu/ops_support.h"

namespace lowrank::test {
namespace {

// Square and lopsided, sizes of no vector, r above a side, sides of one, D first and C first.
constexpr KroneckerShape kShapes[] = {{24, 24, 24, 24, 0}, {4, 6, 31, 5, 3},   {5, 3, 7, 31, 3},   {1, 1, 13, 17, 2},
                                      {1, 7, 11, 1, 0},    {16, 4, 3, 40, 2},  {9, 9, 9, 8, 12},   {3, 32, 50, 33, 0},
                                      {32, 8, 48, 10, 16}, {9, 33, 17, 40, 4}, {9, 10, 8, 12, 150}};

/// Tolerance for the rounding of operands where tiles of bf16 values are multiplied.
double tolerance(cpu::Level level, DType dtype, const KroneckerShape& shape, double exact) {
  return level == cpu::Level::amx && dtype == DType::bf16 && cpu::fits_tiles(shape) ? 1e-2 : exact;
}

std::vector<float> random_floats(Random& random, int64_t count) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

struct Problem {
  KroneckerShape shape;
  int64_t tokens;
  Random random;
  std::vector<float> c, d, d2, gains;
  Tensor x, dy;

  Problem(const KroneckerShape& s, int64_t count, DType dtype)
      : shape(s),
        tokens(count),
        random(static_cast<uint64_t>(s.l * 1000 + s.q * 10 + count)),
        c(random_floats(random, s.l * s.p)),
        d(random_floats(random, s.d_elements())),
        d2(random_floats(random, s.d2_elements())),
        gains(random_floats(random, s.out())),
        x(dtype, count, s.in(), random),
        dy(dtype, count, s.out(), random) {}

  KroneckerPair pair() const { return {shape, ptr(c), ptr(d), ptr(d2)}; }
  double d_at(int64_t j, int64_t b) const {
    if (shape.r == 0) return d[j * shape.q + b];
    double sum = 0;
    for (int64_t i = 0; i < shape.r; ++i) sum += double{d[j * shape.r + i]} * d2[i * shape.q + b];
    return sum;
  }
};

struct Gradients {
  std::vector<float> c, d, d2, dx;
  bool operator==(const Gradients&) const = default;
};

Gradients backward(cpu::Level level, Problem& test, int threads, bool adds) {
  const KroneckerShape& s = test.shape;
  Pool pool(threads);
  Gradients g{std::vector<float>(s.l * s.p, 1.0f), std::vector<float>(s.d_elements(), 2.0f),
              std::vector<float>(s.d2_elements(), 3.0f), std::vector<float>(test.tokens * s.in(), 4.0f)};
  run(level, pool,
      KroneckerBackward{test.tokens, test.pair(), 0.5f, ptr(test.gains), test.x.at(), test.dy.at(), ptr(g.c), ptr(g.d),
                        ptr(g.d2), ptr(g.dx), adds});
  return g;
}

}  // namespace

TEST("the product with a Kronecker product is that of its definition, over operands of either type") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const KroneckerShape& s : kShapes) {
        Problem test(s, 5, dtype);
        Pool pool(2);
        std::vector<float> residual = random_floats(test.random, test.tokens * s.out()), out = residual;
        run(level, pool, Kronecker{test.tokens, test.pair(), 0.5f, ptr(test.gains), test.x.at(), ptr(out), ptr(out)});
        std::vector<double> expected(residual.begin(), residual.end());
        for (int64_t t = 0; t < test.tokens; ++t)
          for (int64_t o = 0; o < s.out(); ++o)
            for (int64_t i = 0; i < s.in(); ++i)
              expected[t * s.out() + o] += 0.5 * test.gains[o] * test.c[o / s.k * s.p + i / s.q] *
                                           test.d_at(o % s.k, i % s.q) * test.x.get(t, i);
        CHECK_ALL_CLOSE(out, expected, tolerance(level, dtype, s, 2e-6));
        run(level, pool, Kronecker{test.tokens, test.pair(), 0.5f, {}, test.x.at(), {}, ptr(out)});
        std::fill(test.gains.begin(), test.gains.end(), 1.0f);
        std::vector<float> again(out.size());
        run(level, pool, Kronecker{test.tokens, test.pair(), 0.5f, ptr(test.gains), test.x.at(), {}, ptr(again)});
        CHECK(again == out);
      }
  });
}

TEST("the gradients through a Kronecker product are those of its definition") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const KroneckerShape& s : kShapes)
        for (const int64_t tokens : {1, 23}) {
          Problem test(s, tokens, dtype);
          std::vector<double> dc(s.l * s.p, 1.0), dd(s.k * s.q), dx(tokens * s.in());
          for (int64_t t = 0; t < tokens; ++t)
            for (int64_t o = 0; o < s.out(); ++o) {
              const double g = 0.5 * test.gains[o] * test.dy.get(t, o);
              for (int64_t i = 0; i < s.in(); ++i) {
                const double x = test.x.get(t, i), c = test.c[o / s.k * s.p + i / s.q], d = test.d_at(o % s.k, i % s.q);
                dc[o / s.k * s.p + i / s.q] += g * d * x;
                dd[o % s.k * s.q + i % s.q] += g * c * x;
                dx[t * s.in() + i] += g * c * d;
              }
            }
          std::vector<double> first(s.d_elements(), 2.0), second(s.d2_elements(), 3.0);
          for (int64_t j = 0; j < s.k; ++j)
            for (int64_t b = 0; b < s.q; ++b) {
              const double g = dd[j * s.q + b];
              if (s.r == 0) first[j * s.q + b] += g;
              for (int64_t i = 0; i < s.r; ++i) {
                first[j * s.r + i] += g * test.d2[i * s.q + b];
                second[i * s.q + b] += g * test.d[j * s.r + i];
              }
            }
          const Gradients g = backward(level, test, 2, false);
          CHECK_ALL_CLOSE(
              g.c, dc, tolerance(level, dtype, s, 3e-5));  // of a C of one element a single sum, whose parts may cancel
          CHECK_ALL_CLOSE(g.d, first, tolerance(level, dtype, s, 5e-6));
          if (s.r > 0) CHECK_ALL_CLOSE(g.d2, second, tolerance(level, dtype, s, 5e-6));
          CHECK_ALL_CLOSE(g.dx, dx, tolerance(level, dtype, s, 5e-6));
          for (double& value : dx) value += 4;
          CHECK_ALL_CLOSE(backward(level, test, 2, true).dx, dx, tolerance(level, dtype, s, 5e-6));
        }
  });
}

TEST("gradients through a Kronecker product have the same bits for one, two and three threads") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      Problem test({9, 8, 9, 11, 3}, 301, dtype);
      const Gradients one = backward(level, test, 1, true);
      CHECK(one == backward(level, test, 2, true));
      CHECK(one == backward(level, test, 3, true));
    }
  });
}

TEST("the side that takes fewer multiplications goes first") {
  CHECK(!(KroneckerShape{64, 64, 64, 64, 8}.mixes_first()));
  CHECK(!(KroneckerShape{32, 64, 32, 64, 8}.mixes_first()));  // 4096 to 1024 features
  CHECK((KroneckerShape{64, 32, 64, 32, 8}.mixes_first()));
}

}  // namespace lowrank::test
