// Products on CUDA against float64 sums of factors that are rounded as the precision says.
#include "backends/cuda/bench.h"
#include "backends/cuda/runs.h"

#include "backends/cuda/gemm_tiles.h"
#include "backends/cuda/multiply.h"
#include "backends/cuda/weight_copy.h"

namespace lowrank::cuda {
namespace {

double rounded(double value, Precision precision) {
  return precision == Precision::bf16 ? f32_from_bf16(bf16_from_f32(static_cast<float>(value))) : value;
}
/// Relative error of products. The roundings of few bf16 outputs do not even out: there the bound is that of one
/// rounding.
double tolerance(DType y, int64_t depth, int64_t outputs = 1000) {
  const double rounding = y == DType::f32 ? 0 : outputs < 1000 ? 0x1p-8 : 0x1p-9;
  return 2e-6 + 2e-8 * std::sqrt(static_cast<double>(depth)) + rounding;
}

/// Relative Frobenius error of a matrix; infinite where an element beside it was touched.
template <class Expected>
double error_of(const Tensor& y, Expected&& expected) {
  double difference = 0, norm = 1e-30;
  for (int64_t i = 0; i < y.rows(); ++i) {
    for (int64_t j = 0; j < y.cols(); ++j) {
      const double e = expected(i, j);
      difference += (y(i, j) - e) * (y(i, j) - e);
      norm += e * e;
    }
  }
  if (!y.spare_untouched()) return std::numeric_limits<double>::infinity();
  return std::sqrt(difference / norm);
}

/// One product in a runner's memory.
struct Case {
  GemmLayout layout;
  Precision precision;
  int64_t m, n, k;
  WeightShape base;                 // of no rows: none
  std::vector<int64_t> ranks = {};  // of dense fp32 segments
  DType y = DType::f32;
  bool bias = false, residual = false;
  int64_t spare = 0;  // elements after each row of x and y
  DType x = DType::bf16;
};

/// @return what it computed
std::vector<double> check_case(Runner& run, const Case& c) {
  const test::Scope scope("layout " + std::to_string(static_cast<int>(c.layout)) + ", m " + std::to_string(c.m) +
                          ", n " + std::to_string(c.n) + ", k " + std::to_string(c.k) + ", format " +
                          std::to_string(static_cast<int>(c.base.format)));
  test::Random random(static_cast<uint64_t>(c.m * 1000 + c.n));
  const bool nt = c.layout == GemmLayout::nt;
  const DType x_type = c.precision == Precision::f32 ? DType::f32 : c.x;
  std::vector<Tensor> xs, dense;
  std::vector<Segment> segments;
  std::vector<std::function<double(int64_t, int64_t)>> factors;  // (k, n)
  std::unique_ptr<WeightCopy> base;
  Weights weights;
  if (c.base.rows > 0) {
    base = std::make_unique<WeightCopy>(run, c.base, random);
    weights.set(0, base->device);
    xs.emplace_back(run, x_type, c.m, c.k, random, 1, c.spare);
    segments.push_back({xs.back().matrix(), {c.base.rows, c.base.cols, 0}});
    factors.push_back([&](int64_t k, int64_t n) { return nt ? (*base)(n, k) : (*base)(k, n); });
  }
  dense.reserve(c.ranks.size());
  for (const int64_t rank : c.ranks) {
    xs.emplace_back(run, x_type, c.m, rank, random, 1, c.spare);
    const int64_t rows = nt ? c.n : rank, cols = nt ? rank : c.n;
    dense.emplace_back(run, DType::f32, rows, cols, random);
    const Tensor* const w = &dense.back();
    segments.push_back({xs.back().matrix(), {rows, cols, -1, 0, w->floats(), cols}});
    factors.push_back([nt, w](int64_t k, int64_t n) { return nt ? (*w)(n, k) : (*w)(k, n); });
  }
  std::vector<double> expected(static_cast<size_t>(c.m * c.n));
  int64_t depth = 0;
  for (size_t s = 0; s < segments.size(); ++s) {
    depth += xs[s].cols();
    for (int64_t j = 0; j < c.n; ++j) {
      for (int64_t k = 0; k < xs[s].cols(); ++k) {
        const double w = rounded(factors[s](k, j), c.precision);
        for (int64_t i = 0; i < c.m; ++i)
          expected[static_cast<size_t>(i * c.n + j)] += w * rounded(xs[s](i, k), c.precision);
      }
    }
  }
  const Tensor y(run, c.y, c.m, c.n, c.spare);
  Output to{y.matrix()};
  const Tensor bias(run, DType::f32, 1, c.n, random);
  Tensor residual(run, DType::f32, c.m, c.n, random, 1, c.spare);
  if (c.bias) to.bias = bias.floats();
  if (c.residual) {
    // fp32 outputs take the place of it.
    const Tensor* from = &residual;
    if (c.y == DType::f32) {
      Tensor& own = const_cast<Tensor&>(y);
      for (int64_t i = 0; i < c.m; ++i)
        for (int64_t j = 0; j < c.n; ++j) own.set(i, j, residual(i, j));
      from = &y;
    }
    to.residual = from->floats();
    to.residual_ld = from->matrix().ld;
  }
  const auto launch = [&](const auto& kernel) {
    const int64_t bytes = workspace(run.card(), kernel);
    run.set_weights(weights);
    lowrank::cuda::run(run, kernel, bytes == 0 ? Ptr<std::byte>() : address_of(run.buffer<std::byte>(bytes)));
  };
  if (nt) {
    launch(GemmNt{c.precision, c.m, c.n, segments, to});
  } else {
    launch(GemmNn{c.precision, c.m, c.n, segments, to});
  }
  const double error = error_of(y, [&](int64_t i, int64_t j) {
    return expected[static_cast<size_t>(i * c.n + j)] + (c.bias ? bias(0, j) : 0) + (c.residual ? residual(i, j) : 0);
  });
  CHECK_LE(error, tolerance(c.y, depth, c.m * c.n));
  std::vector<double> values;
  for (int64_t i = 0; i < c.m; ++i)
    for (int64_t j = 0; j < c.n; ++j) values.push_back(y(i, j));
  return values;
}

WeightShape base_of(GemmLayout layout, DeviceFormat format, int64_t n, int64_t k) {
  WeightShape shape{format, layout == GemmLayout::nt ? n : k, layout == GemmLayout::nt ? k : n};
  if (is_ggml(format)) shape.head_rows = 0;
  return shape;
}

/// fp32 and bf16, all sizes around those of tiles, adapters, biases and residuals.
std::vector<Case> dense_cases(GemmLayout layout) {
  using enum DType;
  constexpr Precision kBf16 = Precision::bf16;
  const auto bf16_base = [&](int64_t n, int64_t k) { return base_of(layout, DeviceFormat::bf16, n, k); };
  return {
      {layout, kBf16, 1, 7, 5, bf16_base(7, 5)},
      {layout, kBf16, 7, 129, 64, bf16_base(129, 64), {3}, f32, true, true},
      {layout, kBf16, 63, 64, 72, bf16_base(64, 72), {16, 1}, bf16, true, true, 1},
      {layout, kBf16, 65, 128, 96, bf16_base(128, 96), {8}, bf16, false, true, 8},
      {layout, kBf16, 65, 130, 33, bf16_base(130, 33), {}, f32, true, false, 3},
      {layout, kBf16, 129, 16, 300, {}, {300}, bf16},
      {layout, kBf16, 64, 32, 520, {}, {520}, f32, false, false, 0, f32},
      {layout, kBf16, 70, 3, 264, {}, {264}, bf16, false, false, 8},
      {layout, kBf16, 66, 200, 64, {}, {64}, f32},
      {layout, kBf16, 66, 40, 270, bf16_base(40, 270), {3, 1, 2}},  // short segments fill steps of the reduction too
      {layout, kBf16, 5, 40, 72, base_of(layout, DeviceFormat::f32, 40, 72), {200}, f32, true, true},
      {layout, Precision::f32, 1, 1, 1, base_of(layout, DeviceFormat::f32, 1, 1)},
      {layout, Precision::f32, 65, 63, 130, base_of(layout, DeviceFormat::f32, 63, 130), {3, 16}, f32, true, true, 2},
      {layout, Precision::f32, 7, 129, 64, base_of(layout, DeviceFormat::bf16, 129, 64), {8}, f32},
      {layout, Precision::f32, 6, 65, 64, base_of(layout, DeviceFormat::f16, 65, 64)},
  };
}

TEST("CUDA's gemm_nt equals float64") {
  for_each_execution([](Runner& run) {
    for (const Case& c : dense_cases(GemmLayout::nt)) check_case(run, c);
  });
}
TEST("CUDA's gemm_nn equals float64") {
  for_each_execution([](Runner& run) {
    for (const Case& c : dense_cases(GemmLayout::nn)) check_case(run, c);
  });
}

TEST("CUDA multiplies weights of every format in either precision") {
  for_each_execution([](Runner& run) {
    for (int i = 0; i < kDeviceFormats; ++i) {
      const auto format = static_cast<DeviceFormat>(i);
      const int64_t cols = is_ggml(format) ? 256 : 100;  // of 4-bit codes no whole number of blocks
      for (const GemmLayout layout : {GemmLayout::nt, GemmLayout::nn}) {
        const int64_t n = layout == GemmLayout::nt ? 20 : cols, k = layout == GemmLayout::nt ? cols : 20;
        const WeightShape base = base_of(layout, format, n, k);
        check_case(run, {layout, Precision::bf16, 66, n, k, base, {8}, DType::bf16, true, true});
        check_case(run, {layout, Precision::f32, 6, n, k, base, {3}});
        if (layout == GemmLayout::nt) check_case(run, {layout, Precision::bf16, 3, n, k, base, {8}, DType::bf16, true});
      }
    }
  });
}

TEST("CUDA's products of few rows decode 4-bit codes where they multiply") {
  for_each_execution([](Runner& run) {
    for (const DeviceFormat format : {DeviceFormat::nf4, DeviceFormat::fp4}) {
      for (const auto& [m, n, k] : {std::tuple(5, 130, 64), {17, 128, 192}, {64, 16, 1024}, {1, 9, 640}, {4, 33, 64}}) {
        for (const bool nested : {false, true}) {
          WeightShape base{format, n, k};
          base.nested = nested;
          const DType x = nested ? DType::f32 : DType::bf16;
          check_case(run, {GemmLayout::nt, Precision::bf16, m, n, k, base, {16, 3}, DType::bf16, nested, true, 8, x});
          check_case(run, {GemmLayout::nt, Precision::bf16, m, n, k, base, {}, DType::f32, true, nested});
        }
      }
    }
  });
}

/// As the gradient of a value that several linears read.
TEST("CUDA adds up products with several weights, and with rows of them") {
  for_each_execution([](Runner& run) {
    test::Random random(11);
    constexpr int64_t kM = 70, kK = 256, kRows = 24, kFirst = 5;
    const DeviceFormat formats[] = {DeviceFormat::nf4, DeviceFormat::q6_k, DeviceFormat::bf16, DeviceFormat::f32};
    std::vector<std::unique_ptr<WeightCopy>> bases;
    Weights weights;
    for (const DeviceFormat format : formats) {
      bases.push_back(std::make_unique<WeightCopy>(run, WeightShape{format, kRows + kFirst + 3, kK}, random));
      weights.set(static_cast<int>(bases.size()) - 1, bases.back()->device);
    }
    for (const bool nt : {true, false}) {
      for (const int64_t m : {int64_t{3}, kM}) {
        std::vector<Tensor> xs;
        std::vector<Segment> segments;
        for (int i = 0; i < static_cast<int>(bases.size()); ++i) {
          xs.emplace_back(run, DType::bf16, m, nt ? kK : kRows, random);
          segments.push_back({xs.back().matrix(), {kRows, kK, i, kFirst}});
        }
        const int64_t n = nt ? kRows : kK;
        const Tensor y(run, DType::f32, m, n);
        const auto launch = [&](const auto& kernel) {
          run.set_weights(weights);
          lowrank::cuda::run(run, kernel, address_of(run.buffer<std::byte>(workspace(run.card(), kernel))));
        };
        nt ? launch(GemmNt{Precision::bf16, m, n, segments, {y.matrix()}})
           : launch(GemmNn{Precision::bf16, m, n, segments, {y.matrix()}});
        const double error = error_of(y, [&](int64_t i, int64_t j) {
          double sum = 0;
          for (size_t s = 0; s < xs.size(); ++s) {
            for (int64_t k = 0; k < xs[s].cols(); ++k) {
              const float w = nt ? (*bases[s])(kFirst + j, k) : (*bases[s])(kFirst + k, j);
              sum += xs[s](i, k) * rounded(w, Precision::bf16);
            }
          }
          return sum;
        });
        CHECK_LE(error, tolerance(DType::f32, 4 * kK));
      }
    }
  });
}

TEST("CUDA decodes and multiplies weights in slices of the outputs where they are large") {
  for_each_execution([](Runner& run) {
    Card card;
    card.decoded_bytes = 1;  // slices of 256
    run.set_card(card);
    for (const GemmLayout layout : {GemmLayout::nt, GemmLayout::nn}) {
      const WeightShape base = base_of(layout, DeviceFormat::nf4, 600, 64);
      check_case(run, {layout, Precision::bf16, 66, 600, 64, base, {8, 300}, DType::bf16, true, true});
      check_case(run, {layout, Precision::f32, 5, 600, 64, base, {8}, DType::f32, true, true});
    }
  });
}

TEST("CUDA's products need no less workspace for more rows") {
  for (const GemmLayout layout : {GemmLayout::nt, GemmLayout::nn}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{16, 4096}, {200, 2048}, {4096, 64}, {1024, 4096}}) {
      int64_t before = 0;
      for (int64_t m = 1; m < 10000; m = m * 5 / 4 + 1) {
        const Segment base{{}, {layout == GemmLayout::nt ? n : k, layout == GemmLayout::nt ? k : n, 0}};
        const GemmNt nt{Precision::bf16, m, n, {&base, 1}, {}};
        const GemmNn nn{Precision::bf16, m, n, {&base, 1}, {}};
        const int64_t bytes = layout == GemmLayout::nt ? workspace(Card(), nt) : workspace(Card(), nn);
        CHECK_LE(before, bytes);
        before = bytes;
      }
      before = 0;
      for (int64_t tokens = 1; tokens < 10000; tokens = tokens * 5 / 4 + 1) {
        const int64_t bytes = workspace(Card(), ReduceTokens{Precision::bf16, tokens, {}, n, {}, k, 1, {}, k, false});
        CHECK_LE(before, bytes);
        before = bytes;
      }
    }
  }
}

TEST("CUDA's products have the same bits in every order of threads and blocks") {
  const Case cases[] = {
      {GemmLayout::nt, Precision::bf16, 65, 70, 2048, {DeviceFormat::bf16, 70, 2048}, {8}},  // cut into parts
      {GemmLayout::nt, Precision::bf16, 9, 40, 1024, {DeviceFormat::nf4, 40, 1024}, {8}},    // these too
      {GemmLayout::nt, Precision::bf16, 2, 40, 1024, {DeviceFormat::q4_k, 40, 1024}, {8}},
  };
  for (const Case& c : cases) {
    std::vector<double> first;
    for_each_execution([&](Runner& run) {
      if (!run.name().starts_with("emulated")) return;
      const std::vector<double> values = check_case(run, c);
      if (first.empty()) first = values;
      CHECK(values == first);
    });
  }
}

TEST("CUDA's products equal float64 at random shapes") {
  test::Random random(12);
  const auto pick = [&](int64_t n) { return static_cast<int64_t>(random.bits() % static_cast<uint32_t>(n)); };
  for (size_t round = 0; round < 60; ++round) {
    const auto format = static_cast<DeviceFormat>(pick(kDeviceFormats));
    const GemmLayout layout = pick(2) == 0 ? GemmLayout::nt : GemmLayout::nn;
    WeightShape base{format, 1 + pick(150), is_ggml(format) ? 256 * (1 + pick(2)) : 1 + pick(300)};
    if (format <= DeviceFormat::f16 || format == DeviceFormat::int8) base.spare = pick(10);
    base.nested = pick(2) == 0;
    const bool nt = layout == GemmLayout::nt;
    Case c{layout,
           Precision::bf16,
           1 + pick(pick(2) == 0 ? 140 : 8),
           nt ? base.rows : base.cols,
           nt ? base.cols : base.rows,
           base};
    if (pick(4) == 0) c.precision = Precision::f32;
    for (int64_t more = pick(4); more > 0; --more) c.ranks.push_back(1 + pick(pick(4) == 0 ? 300 : 20));
    if (c.precision == Precision::bf16 && pick(2) == 0) c.y = DType::bf16;
    c.bias = pick(2) == 0;
    c.residual = pick(2) == 0;
    c.spare = pick(10);
    if (pick(3) == 0) c.x = DType::f32;
    Card card;
    if (pick(2) == 0) card.decoded_bytes = 1;
    size_t execution = 0;
    for_each_execution([&](Runner& run) {
      if (execution++ % Execution::all().size() != round % Execution::all().size()) return;  // one of them a round
      run.set_card(card);
      check_case(run, c);
    });
  }
}

/// Every tile, whatever the sizes that take it.
TEST("CUDA's tiles of products equal float64") {
  for_each_execution([](Runner& run) {
    for (const GemmLayout layout : {GemmLayout::nt, GemmLayout::nn, GemmLayout::tn}) {
      for (const GemmTile& tile : kGemmTiles[static_cast<int>(layout)]) {
        if (tile.m == 0) continue;
        const test::Scope scope(tile.kernel.name);
        test::Random random(5);
        const int64_t m = tile.m + 1, n = tile.n + 8, k = 2 * tile.depth + 24;
        const bool x_turned = layout == GemmLayout::tn, w_turned = layout != GemmLayout::nt;
        const Tensor x(run, DType::bf16, x_turned ? k : m, x_turned ? m : k, random, 1, x_turned ? 7 : 0);
        const Tensor w(run, DType::bf16, w_turned ? k : n, w_turned ? n : k, random);
        const Tensor y(run, DType::f32, m, n, 4);
        GemmArgs args = output_args(m, n, {y.matrix()});
        args.segment[args.segments++] = {operand_of(x.matrix()), operand_of(w.matrix()), k};
        multiply(run, tile, args);
        const double error = error_of(y, [&](int64_t i, int64_t j) {
          double sum = 0;
          for (int64_t s = 0; s < k; ++s) sum += (x_turned ? x(s, i) : x(i, s)) * (w_turned ? w(s, j) : w(j, s));
          return sum;
        });
        CHECK_LE(error, tolerance(DType::f32, k));
      }
    }
  });
}

TEST("CUDA's reduce_tokens equals float64") {
  for_each_execution([](Runner& run) {
    struct Sizes {
      int64_t tokens, r, n;
      DType type = DType::bf16;
    };
    for (const Sizes& s : {Sizes{1, 1, 7},
                           {65, 3, 64},
                           {600, 8, 40},
                           {127, 16, 129},
                           {130, 64, 65},
                           {70, 20, 200},
                           {449, 40, 40},
                           {520, 128, 24, DType::f32},
                           {64, 200, 130}}) {
      for (const bool transposed : {false, true}) {
        for (const Precision precision : {Precision::bf16, Precision::f32}) {
          const DType type = precision == Precision::f32 ? DType::f32 : s.type;
          const test::Scope scope("tokens " + std::to_string(s.tokens) + ", r " + std::to_string(s.r));
          test::Random random(6);
          const Tensor u(run, type, s.tokens, s.r, random, 1, 1), x(run, type, s.tokens, s.n, random, 1, 8);
          const int64_t rows = transposed ? s.n : s.r, cols = transposed ? s.r : s.n;
          Tensor out(run, DType::f32, rows, cols, random, 1, 1);
          std::vector<double> before;
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j) before.push_back(out(i, j));
          const ReduceTokens k{precision, s.tokens, u.matrix(),   s.r,      x.matrix(),
                               s.n,       0.5f,     out.floats(), cols + 1, transposed};
          const int64_t bytes = workspace(run.card(), k);
          lowrank::cuda::run(run, k, bytes == 0 ? Ptr<std::byte>() : address_of(run.buffer<std::byte>(bytes)));
          const double error = error_of(out, [&](int64_t i, int64_t j) {
            double sum = 0;
            for (int64_t t = 0; t < s.tokens; ++t)
              sum += rounded(u(t, transposed ? j : i), precision) * rounded(x(t, transposed ? i : j), precision);
            return before[static_cast<size_t>(i * cols + j)] + 0.5 * sum;
          });
          CHECK_LE(error, tolerance(DType::f32, s.tokens));
        }
      }
    }
  });
}

TEST("CUDA adds and splits pairs as float64 does") {
  for_each_execution([](Runner& run) {
    for (const auto& [rows, cols, rank, rank2] : {std::tuple(1, 1, 1, 1), {65, 70, 3, 8}, {7, 129, 16, 20}}) {
      test::Random random(7);
      const Tensor b(run, DType::f32, rows, rank, random), a(run, DType::f32, rank, cols, random);
      const Tensor b2(run, DType::f32, rows, rank2, random), a2(run, DType::f32, rank2, cols, random);
      const Tensor gains(run, DType::f32, 1, rows, random), g(run, DType::f32, rows, cols, random);
      const WeightCopy base(run, {DeviceFormat::nf4, rows, cols}, random);
      Weights weights;
      weights.set(0, base.device);
      const Pair pair{rows, cols, rank, rank2, b.floats(), a.floats(), b2.floats(), a2.floats()};
      const auto product = [](const Tensor& left, const Tensor& right, int64_t i, int64_t j) {
        double sum = 0;
        for (int64_t k = 0; k < left.cols(); ++k) sum += left(i, k) * right(k, j);
        return sum;
      };
      for (const bool with : {false, true}) {
        const Tensor out(run, DType::f32, rows, cols);
        const Factor factor = with ? Factor{rows, cols, 0} : Factor{};
        const Ptr<float> gain = with ? gains.floats() : Ptr<float>();
        run.set_weights(weights);
        lowrank::cuda::run(run, AddPair{pair, factor, 0.5f, gain, out.floats()}, {});
        CHECK_LE(error_of(out,
                          [&](int64_t i, int64_t j) {
                            return (with ? base(i, j) : 0) +
                                   0.5 * (with ? gains(0, i) : 1) * product(b, a, i, j) * product(b2, a2, i, j);
                          }),
                 2e-6);
        const Tensor first(run, DType::f32, rows, cols), second(run, DType::f32, rows, cols);
        std::memcpy(first.bytes(), g.bytes(), static_cast<size_t>(rows * cols) * 4);
        lowrank::cuda::run(run, SplitPair{pair, gain, first.floats(), second.floats()}, {});
        const auto share = [&](const Tensor& left, const Tensor& right) {
          return [&, with](int64_t i, int64_t j) {
            return g(i, j) * (with ? gains(0, i) : 1) * product(left, right, i, j);
          };
        };
        CHECK_LE(error_of(first, share(b2, a2)), 2e-6);
        CHECK_LE(error_of(second, share(b, a)), 2e-6);
      }
    }
  });
}

/// Two rows share a part, one has another besides, and one has none.
auto product_by_row(Precision precision) {
  return [=](Bench& bench) {
    constexpr int64_t kM = 4, kN = 70, kK = 96, kAll = 8;
    const DType operand = operand_of(precision);
    const Matrix x = bench.matrix(operand, kM, kK);
    const Factor w{kN, kK, -1, 0, bench.floats(kN * kK), kK};
    static LowRankPart parts[2];
    const int64_t active[] = {8, 3};
    for (int i = 0; i < 2; ++i) {
      const Ptr<float> a = bench.floats(kAll * kK), b = bench.floats(kN * kAll);
      const Ptr<float> d = i == 0 ? Ptr<float>() : bench.floats(kAll);
      parts[i] = {i, 2 - i, {active[i], kK, -1, 0, a, kK}, {kN, kAll, active[i], 0.5f, 1.5f, b, d, {}, {}, {}, {}}};
    }
    const Matrix y = bench.matrix(DType::f32, kM, kN);
    return GemmNtByRow{precision, kM, kN, {x, w}, parts, {y, bench.floats(kN), y.data.as<float>(), kN}};
  };
}

TEST("rows with parts of their own are multiplied as on the CPU") {
  check_like_cpu(product_by_row(Precision::f32), {1e-5, 30});
  check_like_cpu(product_by_row(Precision::bf16), {0.02, 30});
}

}  // namespace
}  // namespace lowrank::cuda
