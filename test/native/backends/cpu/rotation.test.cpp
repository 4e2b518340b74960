// Rotations of blocks at every level, against their definition in double precision.
#include "kernels/rotation.h"

#include "backends/cpu/ops_support.h"

namespace lowrank::test {
namespace {

struct Rotation {
  int64_t cols;
  Blocks shape;
  int terms;
};
// Sizes of whole vectors and others, shared blocks, one block, the shortest series and longer ones.
constexpr Rotation kRotations[] = {{96, {3, 32}, 5}, {72, {9, 8}, 6},  {60, {1, 20}, 3}, {35, {5, 7}, 4},
                                   {33, {1, 33}, 5}, {24, {12, 2}, 2}, {64, {1, 16}, 7}, {12, {2, 6}, 1}};

std::vector<float> floats(Random& random, int64_t count, double scale = 1) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal() * scale);
  return values;
}

using Values = std::vector<double>;

Values product(int64_t n, const Values& a, const Values& b) {
  Values out(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < n; ++j) out[i * n + j] += a[i * n + k] * b[k * n + j];
  return out;
}

/// Power by power, as PEFT's code has it.
Values rotation(int64_t n, int terms, const float* upper) {
  Values q(n * n), r(n * n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i + 1; j < n; ++j) q[i * n + j] = *upper, q[j * n + i] = -*upper++;
  const auto add = [&](const Values& power, double factor) {
    for (int64_t i = 0; i < n * n; ++i) r[i] += factor * power[i];
  };
  for (int64_t i = 0; i < n; ++i) r[i * n + i] = 1;
  if (terms > 1) add(q, 2);
  if (terms > 2) {
    Values power = product(n, q, q);
    add(power, 2);
    for (int i = 3; i < terms - 1; ++i) add(power = product(n, power, q), 2);
    add(product(n, power, q), 1);
  }
  return r;
}

}  // namespace

TEST("the Cayley-Neumann series is the sum of its powers, whole or without I, and of the transpose") {
  for_levels([](cpu::Level level) {
    for (const Rotation& c : kRotations) {
      Random random(7);
      const int64_t n = c.shape.size;
      const std::vector<float> skew = floats(random, c.shape.blocks * c.shape.skew_elements(), 0.1);
      Pool pool(2);
      std::vector<float> d(c.shape.blocks * n * n), whole(d.size()), inverse(d.size());
      run(level, pool, CayleyNeumann{c.shape, c.terms, false, false, ptr(skew), ptr(d)});
      run(level, pool, CayleyNeumann{c.shape, c.terms, false, true, ptr(skew), ptr(whole)});
      run(level, pool, CayleyNeumann{c.shape, c.terms, true, true, ptr(skew), ptr(inverse)});
      for (int64_t b = 0; b < c.shape.blocks; ++b) {
        const Values r = rotation(n, c.terms, skew.data() + b * c.shape.skew_elements());
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < n; ++j) {
            const double expected = r[i * n + j];
            CHECK(std::abs(whole[(b * n + i) * n + j] - expected) < 2e-6);
            CHECK(std::abs(d[(b * n + i) * n + j] + (i == j) - expected) < 2e-6);
            CHECK(std::abs(inverse[(b * n + j) * n + i] - expected) < 2e-6);
          }
      }
    }
  });
}

TEST("the gradient of the Cayley-Neumann series is that of finite differences in double precision") {
  for_levels([](cpu::Level level) {
    for (const Rotation& c : kRotations) {
      Random random(9);
      const int64_t n = c.shape.size, of_block = c.shape.skew_elements();
      std::vector<float> skew = floats(random, c.shape.blocks * of_block, 0.1);
      const std::vector<float> g = floats(random, c.shape.blocks * n * n);
      std::vector<float> found(skew.size(), 3.0f), other(skew.size(), 3.0f);
      for (const int threads : {2, 1}) {
        Pool pool(threads);
        run(level, pool, CayleyNeumannBackward{c.shape, c.terms, ptr(skew), ptr(g), ptr(threads == 1 ? other : found)});
      }
      CHECK(found == other);
      const auto loss = [&](int64_t b) {
        const Values r = rotation(n, c.terms, skew.data() + b * of_block);
        double sum = 0;
        for (int64_t i = 0; i < n * n; ++i) sum += r[i] * g[b * n * n + i];
        return sum;
      };
      for (int64_t b = 0; b < c.shape.blocks; ++b)
        for (int64_t i = 0; i < of_block; i += 1 + of_block / 5) {
          float& at = skew[b * of_block + i];
          const float kept = at, above = kept + 0.0078125f, below = kept - 0.0078125f;
          at = above;
          const double high = loss(b);
          at = below;
          const double low = loss(b);
          at = kept;
          const double expected = (high - low) / (double{above} - below);
          CHECK(std::abs(found[b * of_block + i] - 3 - expected) < 2e-3 * (1 + std::abs(expected)));
        }
    }
  });
}

TEST("the series of a rotation applied to tokens is the rotation") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const Rotation& c : kRotations)
        for (const int64_t tokens : {1, 70}) {
          Random random(13);
          const int64_t n = c.shape.size;
          const std::vector<float> skew = floats(random, c.shape.blocks * c.shape.skew_elements(), 0.1);
          Tensor x(dtype, tokens, c.cols, random), out(DType::f32, tokens, c.cols);
          Pool pool(2);
          run(level, pool, RotateBySeries{tokens, c.cols, c.shape, c.terms, x.at(), ptr(skew), 1, x.at(), out.at()});
          CHECK(out.spare_untouched());
          for (int64_t block = 0; block < c.cols / n; ++block) {
            const int64_t own = c.shape.blocks == 1 ? 0 : block;
            const Values r = rotation(n, c.terms, skew.data() + own * c.shape.skew_elements());
            for (int64_t t = 0; t < tokens; ++t)
              for (int64_t i = 0; i < n; ++i) {
                double expected = 0;
                for (int64_t k = 0; k < n; ++k) expected += x.get(t, block * n + k) * r[k * n + i];
                CHECK(std::abs(out.get(t, block * n + i) - expected) < 1e-5 * (1 + std::abs(expected)));
              }
          }
        }
  });
}

TEST("tokens are rotated block by block beside what is added, and so are their gradients") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const Rotation& c : kRotations) {
        constexpr int64_t kTokens = 131;  // three tiles, the last one short
        Random random(11);
        const int64_t n = c.shape.size;
        const std::vector<float> d = floats(random, c.shape.blocks * n * n);
        Tensor x(dtype, kTokens, c.cols, random), addend(DType::f32, kTokens, c.cols, random);
        Tensor dy(DType::f32, kTokens, c.cols, random);
        Tensor alone(dtype, kTokens, c.cols), first(DType::f32, kTokens, c.cols);
        std::vector<float> g(c.shape.blocks * n * n, 1.0f), other(g.size(), 1.0f);
        Values expected(g.size(), 1.0);
        for (const int threads : {1, 3}) {
          Pool pool(threads);
          run(level, pool, Rotate{kTokens, c.cols, c.shape, x.at(), ptr(d), 1, {}, alone.at()});
          Tensor sum = addend;
          run(level, pool, Rotate{kTokens, c.cols, c.shape, x.at(), ptr(d), 0.5f, sum.at(), sum.at()});
          run(level, pool, RotationGradient{kTokens, c.cols, c.shape, x.at(), dy.at(), ptr(threads == 1 ? g : other)});
          CHECK(sum.spare_untouched() && alone.spare_untouched());
          if (threads == 1)
            first = sum;
          else
            CHECK(first == sum);
        }
        CHECK(g == other);
        for (int64_t t = 0; t < kTokens; ++t)
          for (int64_t i = 0; i < c.cols; ++i) {
            const int64_t block = i / n, own = c.shape.blocks == 1 ? 0 : block;
            double turned = 0;
            for (int64_t k = 0; k < n; ++k) {
              turned += x.get(t, block * n + k) * d[(own * n + k) * n + i % n];
              expected[(own * n + k) * n + i % n] += x.get(t, block * n + k) * dy.get(t, i);
            }
            CHECK(std::abs(alone.get(t, i) - turned) < (dtype == DType::bf16 ? 1e-2 : 1e-5) * (1 + std::abs(turned)));
            CHECK(std::abs(first.get(t, i) - addend.get(t, i) - 0.5 * turned) < 1e-5 * (1 + std::abs(turned)));
          }
        for (size_t i = 0; i < g.size(); ++i) CHECK(std::abs(g[i] - expected[i]) < 1e-4 * (1 + std::abs(expected[i])));
      }
  });
}

}  // namespace lowrank::test
