// The gated delta rule: outputs and gradients of transformers, and every level and operand type against the reference.
#include "golden.h"
#include "ops_support.h"

namespace lowrank::test {
namespace {

struct Sizes {
  int32_t key_heads, heads, key_dim, value_dim;
  std::vector<int32_t> lengths;

  int64_t tokens() const {
    int64_t sum = 0;
    for (const int32_t length : lengths) sum += length;
    return sum;
  }
  int64_t width() const { return 2 * key_heads * key_dim + values(); }
  int64_t values() const { return heads * value_dim; }
  int64_t state() const { return heads * key_dim * value_dim; }
};

std::vector<float> floats(Random& random, int64_t count, double middle = 0) {
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<float>(random.normal() + middle));
  return result;
}

std::vector<double> doubles(const std::vector<float>& from) { return {from.begin(), from.end()}; }

/// A delta rule with inputs, and all that it gives.
struct Rule {
  Rule(const Sizes& of, DType type) : sizes(of), dtype(type) {}

  Sizes sizes;
  DType dtype;
  Random random{7};
  Tensor x{dtype, sizes.tokens(), sizes.width(), random}, beta{dtype, sizes.tokens(), sizes.heads, random},
      alpha{dtype, sizes.tokens(), sizes.heads, random, 2.0}, dout{dtype, sizes.tokens(), sizes.values(), random};
  std::vector<float> weight = floats(random, sizes.heads), bias = floats(random, sizes.heads, -2);
  Tensor out{dtype, sizes.tokens(), sizes.values()}, dx{dtype, sizes.tokens(), sizes.width()},
      dbeta{dtype, sizes.tokens(), sizes.heads}, dalpha{dtype, sizes.tokens(), sizes.heads};
  std::vector<float> dweight = std::vector<float>(static_cast<size_t>(sizes.heads)), dbias = dweight;
  std::vector<float> ends = std::vector<float>(static_cast<size_t>(sizes.tokens() / 64 * sizes.state()), NAN);

  DeltaInputs inputs(const std::vector<int32_t>& seqlens) {
    return {sizes.tokens(), {sizes.heads, sizes.key_heads, sizes.key_dim, sizes.value_dim},
            seqlens,        x.at(),
            beta.at(),      alpha.at(),
            ptr(weight),    ptr(bias)};
  }

  void run(cpu::Level level, int threads = 2) {
    Pool pool(threads);
    std::vector<int32_t> seqlens{0};
    for (const int32_t length : sizes.lengths) seqlens.push_back(seqlens.back() + length);
    const DeltaInputs in = inputs(seqlens);
    test::run(level, pool, GatedDeltaRule{in, out.at(), 0, {}, {}, 64, ptr(ends)});
    test::run(level, pool, GatedDeltaRuleBackward{in, 64, ptr(ends), dout.at(), dx.at(), dbeta.at(), dalpha.at()});
    test::run(level, pool,
              DeltaRuleGradient{in.tokens, sizes.heads, alpha.at(), dalpha.at(), ptr(bias), ptr(dweight), ptr(dbias)});
    for (const Tensor* const written : {&out, &dx, &dbeta, &dalpha}) CHECK(written->spare_untouched());
  }
};

void fill(Tensor& tensor, const std::vector<float>& values) {
  for (int64_t i = 0; i < tensor.rows() * tensor.cols(); ++i)
    tensor.set(i / tensor.cols(), i % tensor.cols(), values[static_cast<size_t>(i)]);
}

Rule golden(const GoldenFile& file, const std::string& name) {
  const std::vector<int32_t> sizes = file.values<int32_t>(name + ".sizes");
  Rule rule{{sizes[0], sizes[1], sizes[2], sizes[3], {sizes.begin() + 4, sizes.end()}}, DType::f32};
  const auto values = [&](const char* what) { return file.values<float>(name + "." + what); };
  fill(rule.x, values("x"));
  fill(rule.beta, values("beta"));
  fill(rule.alpha, values("alpha"));
  fill(rule.dout, values("dout"));
  rule.weight = values("a_log");
  rule.bias = values("dt_bias");
  return rule;
}

// Lengths around those of chunks, key heads that serve several heads, and values that leave part of a vector.
const Sizes kSizes[] = {{1, 1, 1, 1, {1}},          {1, 1, 4, 16, {63}},          {1, 2, 9, 70, {64}},
                        {2, 4, 5, 33, {65, 1}},     {1, 3, 16, 130, {130}},       {2, 2, 3, 7, {1, 63, 64, 2}},
                        {1, 1, 8, 64, {60, 8, 70}}, {3, 3, 2, 5, {3, 1, 1, 2, 1}}};

template <class Body>
void for_cases(Body&& body) {
  for_levels([&](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const Sizes& sizes : kSizes) body(level, dtype, sizes);
  });
}

}  // namespace

TEST("the gated delta rule and its gradients are those of transformers") {
  const GoldenFile file("numbers/delta_rule.safetensors");
  for_levels([&](cpu::Level level) {
    for (const std::string name : {"shared", "wide", "grouped"}) {
      Rule rule = golden(file, name);
      const auto expected = [&](const char* what) { return doubles(file.values<float>(name + "." + what)); };
      rule.run(level);
      CHECK_ALL_CLOSE(rule.out.values(), expected("out"), 2e-6);
      CHECK_ALL_CLOSE(rule.dx.values(), expected("dx"), 5e-6);
      CHECK_ALL_CLOSE(rule.dbeta.values(), expected("dbeta"), 5e-6);
      CHECK_ALL_CLOSE(rule.dalpha.values(), expected("dalpha"), 5e-6);
      CHECK_ALL_CLOSE(doubles(rule.dweight), expected("da_log"), 5e-6);
      CHECK_ALL_CLOSE(doubles(rule.dbias), expected("ddt_bias"), 5e-6);
    }
  });
}

TEST("the gated delta rule has the same numbers at every level, whatever its sizes") {
  for_cases([](cpu::Level level, DType dtype, const Sizes& sizes) {
    if (level == cpu::Level::reference) return;
    Rule rule{sizes, dtype}, expected{sizes, dtype};
    rule.run(level);
    expected.run(cpu::Level::reference);
    const double tolerance = dtype == DType::f32 ? 5e-6 : 1e-2;
    CHECK_ALL_CLOSE(rule.out.values(), expected.out.values(), tolerance);
    CHECK_ALL_CLOSE(rule.dx.values(), expected.dx.values(), tolerance);
    CHECK_ALL_CLOSE(rule.dbeta.values(), expected.dbeta.values(), tolerance);
    CHECK_ALL_CLOSE(rule.dalpha.values(), expected.dalpha.values(), tolerance);
    CHECK_ALL_CLOSE(doubles(rule.ends), doubles(expected.ends), 5e-6);
  });
}

TEST("packed sequences have the bits that each has alone") {
  for_cases([](cpu::Level level, DType dtype, const Sizes& sizes) {
    // The reference has states in double, except those that it keeps.
    if (level == cpu::Level::reference || sizes.lengths.size() == 1) return;
    Rule packed{sizes, dtype};
    packed.run(level);
    int64_t first = 0;
    for (const int32_t length : sizes.lengths) {
      Sizes own = sizes;
      own.lengths = {length};
      Rule alone{own, dtype};
      alone.weight = packed.weight;
      alone.bias = packed.bias;
      const auto same = [&](const Tensor& whole, const Tensor& part) {
        for (int64_t row = 0; row < length; ++row)
          for (int64_t col = 0; col < part.cols(); ++col) CHECK_EQ(part.get(row, col), whole.get(first + row, col));
      };
      const auto take = [&](Tensor& part, const Tensor& whole) {
        for (int64_t row = 0; row < length; ++row)
          for (int64_t col = 0; col < part.cols(); ++col) part.set(row, col, whole.get(first + row, col));
      };
      take(alone.x, packed.x);
      take(alone.beta, packed.beta);
      take(alone.alpha, packed.alpha);
      take(alone.dout, packed.dout);
      alone.run(level);
      same(packed.out, alone.out);
      same(packed.dx, alone.dx);
      same(packed.dbeta, alone.dbeta);
      same(packed.dalpha, alone.dalpha);
      first += length;
    }
  });
}

TEST("a text in pieces goes on from the state of its end, or of the end of a block") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      Rule whole{{1, 2, 5, 19, {330}}, dtype};
      whole.run(level);
      Pool pool(2);
      constexpr int64_t kBlock = 128;
      Rule text{whole.sizes, dtype};
      const int64_t size = text.sizes.state();
      std::vector<float> state(static_cast<size_t>(size), NAN), ends(static_cast<size_t>(2 * size), NAN);
      const auto piece = [&](int64_t begin, int64_t rows) {
        const std::vector<int32_t> seqlens{0, static_cast<int32_t>(rows)};
        DeltaInputs in = text.inputs(seqlens);
        in.tokens = rows;
        for (Matrix* const m : {&in.x, &in.beta, &in.alpha}) *m = m->rows(begin);
        run(level, pool,
            GatedDeltaRule{
                in, text.out.at().rows(begin), begin, {}, ptr(state), kBlock, ptr(ends) + begin / kBlock * size});
      };
      // The reference has states in double, except those that it keeps.
      const auto check_whole = [&] {
        if (level != cpu::Level::reference) CHECK(text.out == whole.out);
        CHECK_ALL_CLOSE(text.out.values(), whole.out.values(), dtype == DType::f32 ? 1e-6 : 1e-3);
      };
      for (const int64_t rows : {330, 1, 7, 64, 100}) {
        text.out = Tensor(dtype, 330, text.sizes.values());
        ends.assign(ends.size(), NAN);
        for (int64_t begin = 0; begin < 330; begin += rows) piece(begin, std::min(rows, 330 - begin));
        check_whole();
      }
      for (int64_t row = 256; row < 330; ++row)
        for (int64_t col = 0; col < text.sizes.values(); ++col) text.out.set(row, col, 0);
      std::copy_n(ends.begin() + size, size, state.begin());  // that of the second block
      piece(256, 74);
      check_whole();
    }
  });
}

TEST("the gated delta rule has the same bits for one, two and three threads") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      std::vector<Tensor> results[3];
      for (int threads = 1; threads <= 3; ++threads) {
        Rule rule{{3, 6, 8, 40, {70, 3, 30}}, dtype};
        rule.run(level, threads);
        results[threads - 1] = {rule.out, rule.dx, rule.dbeta, rule.dalpha};
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  });
}

}  // namespace lowrank::test
