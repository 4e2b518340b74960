// The matrix kernels of every level this machine has, against sums in double over the decoded weights.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"
#include "check.h"
#include "core/memory.h"
#include "ops_support.h"
#include "quant/blocks.h"

namespace {

using namespace lowrank;
using namespace lowrank::cpu;

/// Sums in double, and the root of the sums of squared terms: what rounding errors are measured against, since a sum
/// may cancel to nearly nothing.
struct Sums {
  std::vector<double> value, square;

  explicit Sums(int64_t count) : value(static_cast<size_t>(count)), square(static_cast<size_t>(count)) {}
  void add(int64_t index, double term) {
    value[static_cast<size_t>(index)] += term;
    square[static_cast<size_t>(index)] += term * term;
  }
  template <class Values>
  double error_of(const Values& actual) const {
    if (std::size(actual) != value.size()) return HUGE_VAL;
    double difference = 0, scale = 0;
    for (size_t i = 0; i < value.size(); ++i) {
      const double delta = static_cast<double>(actual[i]) - value[i];
      difference += delta * delta;
      scale += square[i];
    }
    return difference == 0 ? 0 : std::sqrt(difference / scale);
  }
};

std::mt19937& generator() {
  static std::mt19937 random(7);
  return random;
}

std::vector<float> normal(int64_t count, float scale = 1.0f) {
  std::normal_distribution<float> distribution(0.0f, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(generator());
  return values;
}

/// A weight with storage of its own.
struct Weight {
  WeightView view;
  std::vector<float> f32, absmax, nested;
  std::vector<uint16_t> half;
  std::vector<uint8_t> codes, scale_codes;

  Weight(GgmlType type, int64_t rows, int64_t cols, int64_t head_rows = 0) {
    view.format = WeightFormat::ggml;
    view.ggml = type;
    view.rows = rows;
    view.cols = view.ld = cols;
    view.head_rows = head_rows;
    codes = lowrank::test::random_blocks(type, rows * cols, generator());
    view.data = codes.data();
  }

  Weight(WeightFormat format, int64_t rows, int64_t cols, bool nested_scales = false) {
    view.format = format;
    view.rows = rows;
    view.cols = cols;
    view.ld = cols + 3;
    if (format == WeightFormat::four_bit) {
      const int64_t blocks = (rows * cols + kCodeBlock - 1) / kCodeBlock;
      codes.resize(static_cast<size_t>(blocks * kCodeBlock / 2));
      for (uint8_t& code : codes) code = static_cast<uint8_t>(generator()());
      view.data = codes.data();
      if (nested_scales) {
        scale_codes.resize(static_cast<size_t>(blocks));
        for (uint8_t& code : scale_codes) code = static_cast<uint8_t>(generator()());
        nested = normal((blocks + kNestedBlock - 1) / kNestedBlock);
        view.absmax_codes = scale_codes.data();
        view.nested_absmax = nested.data();
        view.absmax_offset = 0.25f;
      } else {
        absmax = normal(blocks);
        view.absmax = absmax.data();
      }
      // Whatever table a view brings, for every shape of the first product and its repetitions.
      static int64_t turn = 0;
      if (++turn % 2 == 0) view.values = kFp4Values;
      return;
    }
    if (format == WeightFormat::int8) {
      codes.resize(static_cast<size_t>(rows * view.ld));
      for (uint8_t& code : codes) code = static_cast<uint8_t>(generator()());
      absmax = normal(rows);
      view.data = codes.data();
      view.absmax = absmax.data();
      return;
    }
    f32 = normal(rows * view.ld);
    view.data = f32.data();
    if (format == WeightFormat::f32) return;
    // Normal f16 numbers: random sign and mantissa, exponents around 1.
    for (float value : f32) {
      half.push_back(format == WeightFormat::bf16
                         ? bf16_from_f32(value)
                         : static_cast<uint16_t>((generator()() & 0x83ffu) | (12u + generator()() % 4u) << 10));
    }
    view.data = half.data();
  }
};

/// Activations with storage of their own.
struct Activations {
  Matrix view;
  std::vector<float> f32;
  std::vector<uint16_t> bf16;

  Activations(DType dtype, int64_t rows, int64_t cols, int64_t padding = 5) {
    f32 = normal(rows * (cols + padding));
    view = {address_of(f32.data()).as<std::byte>(), dtype, cols + padding};
    if (dtype == DType::bf16) {
      for (float& value : f32) {
        bf16.push_back(bf16_from_f32(value));
        value = f32_from_bf16(bf16.back());
      }
      view.data = address_of(bf16.data()).as<std::byte>();
    }
  }
  float at(int64_t row, int64_t column) const { return f32[static_cast<size_t>(row * view.ld + column)]; }
};

/// Row by row of x, along the weight's own rows: written the other way, it takes most of the time of these tests.
Sums expected_product(bool transposed, int64_t m, int64_t n, const std::vector<Activations>& xs,
                      const std::vector<Weight>& ws) {
  Sums y(m * n);
  for (size_t s = 0; s < xs.size(); ++s) {
    const WeightView& w = ws[s].view;
    std::vector<float> row(static_cast<size_t>(w.cols));
    for (int64_t i = 0; i < w.rows; ++i) {
      decode_row(w, i, 0, w.cols, row.data());
      for (int64_t t = 0; t < m; ++t) {
        for (int64_t j = 0; j < w.cols; ++j) {
          const double weight = row[static_cast<size_t>(j)];
          y.add(t * n + (transposed ? i : j), xs[s].at(t, transposed ? j : i) * weight);
        }
      }
    }
  }
  return y;
}

struct Shape {
  int64_t m, n;
  std::vector<int64_t> reductions;
};

std::string describe(Level level, bool transposed, Precision precision, WeightFormat format, DType x, DType y,
                     const Shape& shape) {
  std::ostringstream text;
  text << name_of(level) << (transposed ? " nt " : " nn ") << (precision == Precision::f32 ? "f32" : "bf16")
       << " weights " << name_of(format) << " x " << name_of(x) << " y " << name_of(y) << " m " << shape.m << " n "
       << shape.n << " k";
  for (int64_t k : shape.reductions) text << ' ' << k;
  return text.str();
}

/// Operands or results rounded to bf16 err by 2e-3 on average over many outputs; one output alone may be several
/// standard deviations off.
double tolerance(Level level, Precision precision, DType y, int64_t outputs) {
  const bool rounds = precision == Precision::bf16 && (prefers_bf16(level) || level == Level::reference);
  if (!rounds && y == DType::f32) return 5e-6;
  return 5e-3 * (1 + 4 / std::sqrt(static_cast<double>(outputs)));
}

template <class Body>
void every_level(Body&& body) {
  for (Level level : kLevels) {
    if (!available(level)) continue;
    for (Precision precision : {Precision::f32, Precision::bf16}) body(level, precision);
  }
}

template <class Body>
void every_combination(Body&& body) {
  every_level([&](Level level, Precision precision) {
    for (bool transposed : {true, false}) body(level, precision, transposed);
  });
}

/// With a workspace that is not cleared, which would take longer than the products.
void launch(Level level, Pool& pool, const Kernel& kernel, const lowrank::test::Views& weights = {}) {
  const CpuSizes sizes(pool.threads());
  CpuDevice device(pool, kernels(level), sizes);
  const auto placed = device.place(weights);
  device.use(placed.get());
  const Block room(Category::workspace, sizes.workspace(kernel));
  device.launch(kernel, address_of(room.data()));
}

void multiply(Level level, bool transposed, Precision precision, Pool& pool, int64_t m, int64_t n,
              const std::vector<SegmentView>& views, const Output& to) {
  lowrank::test::Views weights;
  std::vector<Segment> segments;
  for (const SegmentView& each : views) segments.push_back({each.x, weights.add(each.w)});
  if (transposed) {
    launch(level, pool, GemmNt{precision, m, n, segments, to}, weights);
  } else {
    launch(level, pool, GemmNn{precision, m, n, segments, to}, weights);
  }
}

/// Runs one product at every level and precision and reports what differs: all against the same sums, which take longer
/// than the products. Padding right of column n must survive.
void check_product(bool transposed, WeightFormat format, DType x_type, DType y_type, const Shape& shape, Pool& pool,
                   bool nested_scales = false, bool adds_bias = true, bool adds_residual = true) {
  const int64_t m = shape.m, n = shape.n, ld = n + 9;
  std::vector<Activations> xs;
  std::vector<Weight> ws;
  std::vector<SegmentView> segments;
  xs.reserve(shape.reductions.size());
  ws.reserve(shape.reductions.size());
  for (size_t s = 0; s < shape.reductions.size(); ++s) {
    const int64_t k = shape.reductions[s];
    // Adapters follow the base: dense fp32 factors.
    const WeightFormat own = s == 0 ? format : WeightFormat::f32;
    xs.emplace_back(x_type, m, k, s % 2 == 0 ? 8 : 5);
    ws.emplace_back(own, transposed ? n : k, transposed ? k : n, nested_scales);
    segments.push_back({xs.back().view, ws.back().view});
  }
  Sums expected = expected_product(transposed, m, n, xs, ws);
  const std::vector<float> bias = normal(n), residual = normal(m * ld);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      if (adds_bias) expected.add(i * n + j, bias[static_cast<size_t>(j)]);
      if (adds_residual) expected.add(i * n + j, residual[static_cast<size_t>(i * ld + j)]);
    }
  }

  every_level([&](Level level, Precision precision) {
    const std::string what = describe(level, transposed, precision, format, x_type, y_type, shape);
    // fp32: the residual is the output itself. bf16: the residual lies elsewhere.
    std::vector<float> y32 = residual;
    std::vector<uint16_t> y16(static_cast<size_t>(m * ld), 0x1234);
    Output y{{address_of(y32.data()).as<std::byte>(), y_type, ld}};
    if (y_type == DType::bf16) y.y.data = address_of(y16.data()).as<std::byte>();
    if (adds_bias) y.bias = address_of(bias.data());
    if (adds_residual) y.residual = address_of(y_type == DType::f32 ? y32.data() : residual.data()), y.residual_ld = ld;
    multiply(level, transposed, precision, pool, m, n, segments, y);

    std::vector<double> actual;
    bool padding_kept = true;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < ld; ++j) {
        const size_t index = static_cast<size_t>(i * ld + j);
        const float value = y_type == DType::f32 ? y32[index] : f32_from_bf16(y16[index]);
        if (j < n) {
          actual.push_back(value);
        } else {
          padding_kept &= y_type == DType::f32 ? y32[index] == residual[index] : y16[index] == 0x1234;
        }
      }
    }
    const double error = expected.error_of(actual);
    if (!(error <= tolerance(level, precision, y_type, m * n))) {
      lowrank::test::report(__FILE__, __LINE__, what + ": relative error " + lowrank::test::show(error));
    }
    if (!padding_kept) lowrank::test::report(__FILE__, __LINE__, what + ": wrote right of the last column");
  });
}

/// y of one product of x with a weight.
std::vector<float> product_of(Level level, bool transposed, Precision precision, Pool& pool, int64_t m, const Matrix& x,
                              const WeightView& w) {
  const int64_t n = transposed ? w.rows : w.cols;
  const SegmentView segment{x, w};
  std::vector<float> y(static_cast<size_t>(m * n));
  multiply(level, transposed, precision, pool, m, n, {segment}, {f32_matrix(address_of(y.data()), n)});
  return y;
}

constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::f16, WeightFormat::four_bit,
                                     WeightFormat::int8};
constexpr int64_t kOddM[] = {1, 2, 5, 6, 7, 31, 33, 64, 100};
constexpr int64_t kOddN[] = {1, 15, 16, 17, 48, 64, 192, 576};
constexpr int64_t kOddK[] = {1, 31, 32, 64, 65, 72, 128, 576};

TEST("some rows of a weight are those rows and multiply as they do, at every level, format and precision") {
  Pool pool(2);
  std::vector<std::pair<std::string, Weight>> weights;
  for (const int64_t cols : {576, 71}) {
    for (const WeightFormat format : kFormats) weights.emplace_back(name_of(format), Weight(format, 200, cols));
    weights.emplace_back("four_bit, nested", Weight(WeightFormat::four_bit, 200, cols, true));
  }
  weights.emplace_back("q8_0", Weight(GgmlType::q8_0, 200, 576));
  for (const auto& [name, weight] : weights) {
    const WeightView& whole = weight.view;
    std::vector<float> row(static_cast<size_t>(whole.cols)), own = row;
    for (const int64_t begin : {64, 128}) {
      // The second cut is made of the first one's rows.
      const WeightView part = begin == 64 ? rows_of(whole, 64, 136) : rows_of(rows_of(whole, 64, 136), 64, 72);
      CHECK_EQ(part.rows, 200 - begin);
      for (int64_t i = 0; i < part.rows; ++i) {
        decode_row(whole, begin + i, 0, whole.cols, row.data());
        decode_row(part, i, 0, whole.cols, own.data());
        if (row != own) CHECK_EQ(name, "the same numbers");
      }
      for (const bool transposed : {true, false}) {
        for (const int64_t m : {3, 40}) {
          const int64_t n = transposed ? part.rows : whole.cols, k = transposed ? whole.cols : part.rows;
          const Activations x(DType::f32, m, k);
          Sums expected(m * n);
          for (int64_t i = 0; i < part.rows; ++i) {
            decode_row(whole, begin + i, 0, whole.cols, row.data());
            for (int64_t j = 0; j < whole.cols; ++j)
              for (int64_t t = 0; t < m; ++t)
                expected.add(t * n + (transposed ? i : j),
                             double{x.at(t, transposed ? j : i)} * row[static_cast<size_t>(j)]);
          }
          every_level([&](Level level, Precision precision) {
            const double error = expected.error_of(product_of(level, transposed, precision, pool, m, x.view, part));
            if (!(error <= tolerance(level, precision, DType::f32, m * n)))
              lowrank::test::report(__FILE__, __LINE__,
                                    name + " at " + name_of(level) + ": relative error " + lowrank::test::show(error));
          });
        }
      }
    }
  }
}

TEST("matrix products agree with sums in double at every level, format, precision and odd shape") {
  Pool pool(2);
  for (const bool transposed : {true, false}) {
    int turn = 0;
    for (WeightFormat format : kFormats) {
      for (int64_t m : kOddM) {
        for (int64_t n : kOddN) {
          for (int64_t k : kOddK) {
            ++turn;
            // All small shapes, some of the larger ones, and always another combination of types.
            if (m * n * k > 5000 && turn % 7 != 0) continue;
            if (m * n * k > 500000 && turn % 5 != 0) continue;
            const DType x = turn % 2 == 0 ? DType::f32 : DType::bf16;
            const DType y = turn % 3 == 0 ? DType::bf16 : DType::f32;
            check_product(transposed, format, x, y, {m, n, {k}}, pool, turn % 2 == 0);
          }
        }
      }
    }
  }
}

TEST("a product sums over the base weight and the factors of several adapters") {
  Pool pool(2);
  for (const bool transposed : {true, false}) {
    for (WeightFormat format : kFormats) {
      for (DType x : {DType::f32, DType::bf16}) {
        for (int64_t m : {3, 40}) {
          check_product(transposed, format, x, DType::f32, {m, 192, {576, 16}}, pool);
          check_product(transposed, format, x, DType::bf16, {m, 80, {128, 1, 4, 16, 64}}, pool);
          check_product(transposed, format, x, DType::f32, {m, 64, {192, 192, 576, 8, 8, 8}}, pool);
        }
      }
    }
    const std::vector<int64_t> many(21, 8);
    check_product(transposed, WeightFormat::f32, DType::f32, DType::f32, {9, 33, many}, pool);
  }
}

TEST("long reductions are summed block by block, whatever the type of the output") {
  Pool pool(2);
  for (const bool transposed : {true, false}) {
    check_product(transposed, WeightFormat::bf16, DType::bf16, DType::f32, {9, 48, {9000, 16}}, pool);
    check_product(transposed, WeightFormat::bf16, DType::f32, DType::bf16, {9, 48, {9000, 16}}, pool);
    check_product(transposed, WeightFormat::four_bit, DType::bf16, DType::f32, {17, 64, {4096, 64}}, pool);
    check_product(transposed, WeightFormat::four_bit, DType::f32, DType::bf16, {17, 64, {4160}}, pool);
  }
}

TEST("bias and residual are added or left out, whatever the type of the output and the width of its last vectors") {
  Pool pool(2);
  for (const bool transposed : {true, false}) {
    for (int64_t n : {7, 16, 23, 32, 39, 55, 64, 71, 96}) {
      for (DType y : {DType::f32, DType::bf16}) {
        for (bool bias : {false, true}) {
          for (bool residual : {false, true}) {
            check_product(transposed, WeightFormat::f32, DType::f32, y, {37, n, {40}}, pool, false, bias, residual);
          }
        }
      }
    }
  }
}

constexpr GgmlType kBlockTypes[] = {GgmlType::q8_0, GgmlType::q4_0,   GgmlType::q4_1, GgmlType::q5_0,
                                    GgmlType::q5_1, GgmlType::iq4_nl, GgmlType::q2_k, GgmlType::q3_k,
                                    GgmlType::q4_k, GgmlType::q5_k,   GgmlType::q6_k, GgmlType::iq4_xs};

TEST("every level decodes GGML blocks to the bit, in both directions") {
  Pool pool(2);
  for (Level level : kLevels) {
    if (!available(level)) continue;
    for (GgmlType type : kBlockTypes) {
      const int64_t block = layout_of(type).elements, cols = block * (block == 32 ? 9 : 2), rows = 48;
      for (int64_t head_rows : {0, 16}) {
        const Weight w(type, rows, cols, head_rows);
        std::vector<float> all(static_cast<size_t>(rows * cols)), turned = all;
        for (int64_t r = 0; r < rows; ++r) decode_row(w.view, r, 0, cols, all.data() + r * cols);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < cols; ++c) turned[c * rows + r] = all[r * cols + c];
        // A product with the unit matrix is the matrix; with few rows of it, some of its rows.
        for (const bool transposed : {true, false}) {
          const int64_t k = transposed ? cols : rows;
          std::vector<float> unit(static_cast<size_t>(k * k));
          for (int64_t i = 0; i < k; ++i) unit[i * k + i] = 1;
          const std::vector<float>& expected = transposed ? turned : all;
          for (int64_t m : {int64_t{1}, int64_t{3}, k}) {
            const auto y =
                product_of(level, transposed, Precision::f32, pool, m, f32_matrix(address_of(unit.data()), k), w.view);
            if (std::equal(y.begin(), y.end(), expected.begin())) continue;
            lowrank::test::report(__FILE__, __LINE__,
                                  std::string(name_of(level)) + " decodes " + layout_of(type).name +
                                      (transposed ? " of nt" : " of nn") + " otherwise, m " + lowrank::test::show(m));
          }
        }
      }
    }
  }
}

TEST("products with GGML blocks agree with sums in double at every level, type, precision and shape") {
  Pool pool(2);
  const auto check_levels = [&](bool transposed, int64_t m, const std::vector<Activations>& xs,
                                const std::vector<Weight>& ws) {
    const WeightView& w = ws[0].view;
    const int64_t k = transposed ? w.cols : w.rows, n = transposed ? w.rows : w.cols;
    const Sums expected = expected_product(transposed, m, n, xs, ws);
    every_level([&](Level level, Precision precision) {
      const double error = expected.error_of(product_of(level, transposed, precision, pool, m, xs[0].view, w));
      if (error <= tolerance(level, precision, DType::f32, m * n)) return;
      lowrank::test::report(
          __FILE__, __LINE__,
          describe(level, transposed, precision, WeightFormat::ggml, xs[0].view.dtype, DType::f32, {m, n, {k}}) + " " +
              layout_of(w.ggml).name + ": relative error " + lowrank::test::show(error));
    });
  };
  for (GgmlType type : kBlockTypes) {
    const int64_t block = layout_of(type).elements;
    for (int64_t m : {1, 4, 5, 33, 70}) {
      for (int64_t rows : {1, 17, 64, 100}) {
        // The last is more plain blocks than have their scales decoded at a time.
        for (int64_t blocks : {1, 3, 5, 18}) {
          if (blocks == 18 && (block != kGgmlBlock || m > kFewRows)) continue;
          for (bool transposed : {true, false}) {
            std::vector<Weight> ws;
            ws.emplace_back(type, rows, blocks * block);
            std::vector<Activations> xs;
            xs.emplace_back(m % 2 == 0 ? DType::f32 : DType::bf16, m, transposed ? blocks * block : rows);
            check_levels(transposed, m, xs, ws);
          }
        }
      }
    }
  }
}

TEST("activations whose rows fall into the same cache sets, or start off any boundary, are read right") {
  Pool pool(2);
  const int64_t m = 45, n = 96, k = 1024;
  every_combination([&](Level level, Precision precision, bool transposed) {
    for (DType type : {DType::f32, DType::bf16}) {
      for (int64_t offset : {0, 1}) {
        std::vector<Activations> xs;
        std::vector<Weight> ws;
        xs.emplace_back(type, m, k, 0);
        ws.emplace_back(WeightFormat::four_bit, transposed ? n : k - 64, transposed ? k - 64 : n);
        if (!transposed) ws[0] = Weight(WeightFormat::f32, k - 64, n);
        Matrix x = xs[0].view;
        x = x.columns(offset);
        xs[0].f32.erase(xs[0].f32.begin(), xs[0].f32.begin() + offset);
        const Sums expected = expected_product(transposed, m, n, xs, ws);
        if (type == DType::f32) x.data = address_of(xs[0].f32.data()).as<std::byte>();
        const SegmentView segment{x, ws[0].view};
        std::vector<float> y(static_cast<size_t>(m * n));
        multiply(level, transposed, precision, pool, m, n, {segment}, {f32_matrix(address_of(y.data()), n)});
        CHECK_LE(expected.error_of(y), tolerance(level, precision, DType::f32, m * n));
      }
    }
  });
}

TEST("products are the same bits on one, two and three threads") {
  every_combination([&](Level level, Precision precision, bool transposed) {
    for (int64_t m : {1, 4, 5, 33, 150}) {
      const int64_t n = 208, k = 576;
      const Activations x(DType::bf16, m, k), h(DType::f32, m, 16);
      const Weight w(WeightFormat::four_bit, transposed ? n : k, transposed ? k : n);
      const Weight b(WeightFormat::f32, transposed ? n : 16, transposed ? 16 : n);
      const std::vector<SegmentView> segments = {{x.view, w.view}, {h.view, b.view}};
      std::vector<std::vector<float>> results;
      for (int threads : {1, 2, 3}) {
        Pool pool(threads);
        std::vector<float> y(static_cast<size_t>(m * n));
        multiply(level, transposed, precision, pool, m, n, segments, {f32_matrix(address_of(y.data()), n)});
        results.push_back(y);
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  });
}

// Products of few rows and of many pack different factors.
TEST("a row of a product is the same bits whatever rows are computed with it, in every format") {
  Pool pool(2);
  const int64_t n = 80, k = 192, rank = 8, most = 70;
  std::vector<WeightFormat> formats(std::begin(kFormats), std::end(kFormats));
  formats.push_back(WeightFormat::ggml);
  for (const WeightFormat format : formats) {
    every_combination([&](Level level, Precision precision, bool transposed) {
      const int64_t rows = transposed ? n : k, cols = transposed ? k : n;
      if (format == WeightFormat::ggml && cols % 32 != 0) return;
      const Weight w = format == WeightFormat::ggml ? Weight(GgmlType::q8_0, rows, cols) : Weight(format, rows, cols);
      const Weight b(WeightFormat::f32, transposed ? n : rank, transposed ? rank : n);
      const Activations x(DType::bf16, most, k, 0), h(DType::f32, most, rank, 3);
      const std::vector<float> bias = normal(n), residual = normal(most * n);
      const std::vector<SegmentView> segments = {{x.view, w.view}, {h.view, b.view}};
      std::vector<float> all(static_cast<size_t>(most * n));
      for (int64_t m : {70, 5, 6, 15, 16, 17, 31, 32, 33, 49}) {
        std::vector<float> y(static_cast<size_t>(m * n));
        multiply(level, transposed, precision, pool, m, n, segments,
                 {f32_matrix(address_of(y.data()), n), address_of(bias.data()), address_of(residual.data()), n});
        if (m == most) all = y;
        if (!std::equal(y.begin(), y.end(), all.begin()))
          lowrank::test::report(__FILE__, __LINE__,
                                std::string(name_of(format)) + " at " + name_of(level) + ": " + std::to_string(m) +
                                    " rows differ from " + std::to_string(most));
      }
    });
  }
}

TEST("gradients of factors reduce over tokens and add to what is there, in either orientation") {
  Pool one(1), two(2), three(3);
  for (int64_t tokens : {1, 2, 31, 300}) {
    for (int64_t r : {1, 4, 16, 33}) {
      for (int64_t n : {1, 17, 64, 136}) {
        for (DType u_type : {DType::f32, DType::bf16}) {
          for (DType x_type : {DType::f32, DType::bf16}) {
            for (const bool transposed : {false, true}) {
              const Activations u(u_type, tokens, r), x(x_type, tokens, n);
              const int64_t ld = (transposed ? r : n) + 3, rows = transposed ? n : r, cols = transposed ? r : n;
              const std::vector<float> before = normal(rows * ld);
              Sums expected(rows * cols);
              for (int64_t i = 0; i < rows; ++i) {
                for (int64_t j = 0; j < cols; ++j) expected.add(i * cols + j, before[static_cast<size_t>(i * ld + j)]);
              }
              for (int64_t t = 0; t < tokens; ++t) {
                for (int64_t i = 0; i < r; ++i) {
                  for (int64_t j = 0; j < n; ++j) {
                    expected.add(transposed ? j * r + i : i * n + j, 0.5 * u.at(t, i) * x.at(t, j));
                  }
                }
              }
              every_level([&](Level level, Precision precision) {
                std::vector<std::vector<float>> results;
                for (Pool* const pool : {&one, &two, &three}) {
                  std::vector<float> out = before;
                  launch(level, *pool,
                         ReduceTokens{precision, tokens, u.view, r, x.view, n, 0.5f, address_of(out.data()), ld,
                                      transposed});
                  results.push_back(out);
                }
                std::vector<double> result;
                for (int64_t i = 0; i < rows; ++i) {
                  for (int64_t j = 0; j < cols; ++j) result.push_back(results[0][static_cast<size_t>(i * ld + j)]);
                }
                const bool rounds = prefers_bf16(level) && precision == Precision::bf16;
                CHECK_LE(expected.error_of(result), rounds ? 5e-3 * (1 + 4 / std::sqrt(r * n)) : 5e-6);
                CHECK(results[0] == results[1]);
                CHECK(results[0] == results[2]);
                for (int64_t i = 0; i < rows; ++i) {
                  for (int64_t j = cols; j < ld; ++j) {
                    CHECK_EQ(results[0][static_cast<size_t>(i * ld + j)], before[static_cast<size_t>(i * ld + j)]);
                  }
                }
              });
            }
          }
        }
      }
    }
  }
}

/// A pair of products with storage of its own, and both in double.
struct MadePair {
  std::vector<float> b, a, b2, a2;
  Pair view;

  MadePair(int64_t rows, int64_t cols, int64_t rank, int64_t rank2)
      : b(normal(rows * rank)),
        a(normal(rank * cols)),
        b2(normal(rows * rank2)),
        a2(normal(rank2 * cols)),
        view{rows,
             cols,
             rank,
             rank2,
             address_of(b.data()),
             address_of(a.data()),
             address_of(b2.data()),
             address_of(a2.data())} {}
  double first(int64_t o, int64_t i) const { return at(b, a, view.rank, o, i); }
  double second(int64_t o, int64_t i) const { return at(b2, a2, view.rank2, o, i); }

 private:
  double at(const std::vector<float>& left, const std::vector<float>& right, int64_t rank, int64_t o, int64_t i) const {
    double sum = 0;
    for (int64_t k = 0; k < rank; ++k) sum += double{left[o * rank + k]} * right[k * view.cols + i];
    return sum;
  }
};

// Whole tiles and strips, what is left of either, and rows of no whole quantization block.
const MadePair& pair_of(int shape) {
  static const MadePair pairs[] = {{96, 128, 4, 4}, {50, 100, 3, 5}, {1, 1, 1, 1}, {7, 65, 16, 2}, {131, 24, 2, 3}};
  return pairs[shape];
}
constexpr int kPairs = 5;

TEST("the Hadamard product of a pair is added to a weight of any format, at every level") {
  Pool pool(2);
  for (Level level : kLevels) {
    if (!available(level)) continue;
    for (int shape = 0; shape < kPairs; ++shape) {
      const MadePair& pair = pair_of(shape);
      const int64_t rows = pair.view.rows, cols = pair.view.cols;
      const std::vector<float> gains = normal(rows);
      const auto check = [&](const WeightView* w, const float* scales) {
        Sums expected(rows * cols);
        std::vector<float> base(static_cast<size_t>(cols)), out(static_cast<size_t>(rows * cols), NAN);
        for (int64_t o = 0; o < rows; ++o) {
          if (w != nullptr) decode_row(*w, o, 0, cols, base.data());
          for (int64_t i = 0; i < cols; ++i) {
            expected.add(o * cols + i, base[static_cast<size_t>(i)]);
            expected.add(o * cols + i, 0.5 * (scales ? scales[o] : 1) * pair.first(o, i) * pair.second(o, i));
          }
        }
        lowrank::test::Views weights;
        const Factor added = w == nullptr ? Factor{} : weights.add(*w);
        launch(level, pool, AddPair{pair.view, added, 0.5f, address_of(scales), address_of(out.data())}, weights);
        CHECK_LE(expected.error_of(out), 5e-6);
      };
      check(nullptr, nullptr);
      for (WeightFormat format :
           {WeightFormat::f32, WeightFormat::bf16, WeightFormat::f16, WeightFormat::int8, WeightFormat::four_bit}) {
        const Weight weight(format, rows, cols, true);
        check(&weight.view, gains.data());
      }
    }
  }
}

TEST("the gradient at a pair's Hadamard product is split over its two products, at every level") {
  Pool pool(2);
  for (Level level : kLevels) {
    if (!available(level)) continue;
    for (int shape = 0; shape < kPairs; ++shape) {
      const MadePair& pair = pair_of(shape);
      const int64_t rows = pair.view.rows, cols = pair.view.cols;
      const std::vector<float> gains = normal(rows), gradient = normal(rows * cols);
      for (const float* scales : {gains.data(), static_cast<const float*>(nullptr)}) {
        Sums first(rows * cols), second(rows * cols);
        for (int64_t o = 0; o < rows; ++o) {
          for (int64_t i = 0; i < cols; ++i) {
            const double g = gradient[static_cast<size_t>(o * cols + i)] * double{scales ? scales[o] : 1};
            first.add(o * cols + i, g * pair.second(o, i));
            second.add(o * cols + i, g * pair.first(o, i));
          }
        }
        std::vector<float> g = gradient, other(gradient.size(), NAN);
        launch(level, pool, SplitPair{pair.view, address_of(scales), address_of(g.data()), address_of(other.data())});
        CHECK_LE(first.error_of(g), 5e-6);
        CHECK_LE(second.error_of(other), 5e-6);
      }
    }
  }
}

/// An adapter's factors with all that may scale them.
struct Part {
  int64_t rank;
  std::vector<float> a, b, d, mask, b_gain;
  LowRankPart view;

  Part(int64_t row, int64_t rows, int64_t out, int64_t in, int64_t all, int64_t active, bool scaled)
      : rank(all), a(normal(all * in)), b(normal(out * all)), d(normal(all)), mask(normal(all)), b_gain(normal(out)) {
    const auto if_scaled = [&](const std::vector<float>& values) {
      return scaled ? address_of(values.data()) : Ptr<float>();
    };
    view = {
        row,
        rows,
        {active, in, -1, 0, address_of(a.data()), in},
        {out, all, active, 0.7f, 1.3f, address_of(b.data()), if_scaled(d), if_scaled(mask), if_scaled(b_gain), {}, {}}};
  }
};

/// One row alone: what its parts make of x as further segments of one product.
void multiply_alone(Level level, Pool& pool, const GemmNtByRow& k, int64_t row, const lowrank::test::Views& weights) {
  std::vector<Segment> segments{{k.base.x.rows(row), k.base.w}};
  std::vector<std::vector<float>> folded, hidden;
  for (const LowRankPart& part : k.parts) {
    if (!part.has(row)) continue;
    const int64_t rank = part.b.active;
    Fold fold = part.b;
    fold.out = address_of(folded.emplace_back(static_cast<size_t>(k.n * rank)).data());
    launch(level, pool, fold);
    const Ptr<float> room = address_of(hidden.emplace_back(static_cast<size_t>(rank)).data());
    const Matrix h{room.as<std::byte>(), operand_of(k.precision), rank};
    const Segment through{k.base.x.rows(row), part.a};
    launch(level, pool, GemmNt{k.precision, 1, rank, {&through, 1}, {h}});
    segments.push_back({h, {k.n, rank, -1, 0, fold.out, rank}});
  }
  launch(level, pool, GemmNt{k.precision, 1, k.n, segments, k.to.rows(row)}, weights);
}

TEST("rows with parts of their own have the bits that each has alone, at every level, format and precision") {
  Pool pool(2);
  std::vector<std::pair<std::string, Weight>> bases;
  for (const int64_t in : {576, 71}) {
    for (const WeightFormat format : kFormats) bases.emplace_back(name_of(format), Weight(format, 200, in));
    bases.emplace_back("four_bit, nested", Weight(WeightFormat::four_bit, 200, in, true));
  }
  for (const GgmlType type : {GgmlType::q8_0, GgmlType::q4_1, GgmlType::q6_k})
    bases.emplace_back("ggml", Weight(type, 200, 768));
  bases.emplace_back("long", Weight(WeightFormat::four_bit, 40, 28672));
  for (const auto& [name, weight] : bases) {
    const int64_t n = weight.view.rows, in = weight.view.cols;
    // Rows 3 to 5 have two parts, row 6 has none, and the last part is cut by the rows that are taken at once.
    const int64_t m = in > 1000 ? 17 : 39;
    const Part parts[] = {{0, 6, n, in, 8, 8, false},
                          {3, 3, n, in, 16, 5, true},
                          {7, 1, n, in, 3, 3, false},
                          {8, m - 8, n, in, 33, 33, true}};
    const LowRankPart views[] = {parts[0].view, parts[1].view, parts[2].view, parts[3].view};
    const std::vector<float> bias = normal(n), residual = normal(m * n);
    every_level([&](Level level, Precision precision) {
      const Activations x(operand_of(precision), m, in);
      for (const DType type : {DType::f32, DType::bf16}) {
        for (const bool has_parts : {true, false}) {
          lowrank::test::Views weights;
          const Segment base{x.view, weights.add(weight.view)};
          const auto product = [&](std::vector<float>& y) {
            Output to{{address_of(y.data()).as<std::byte>(), type, n}, address_of(bias.data())};
            if (type == DType::f32) to.residual = address_of(y.data()), to.residual_ld = n;
            return GemmNtByRow{precision, m, n, base, has_parts ? std::span(views) : std::span<const LowRankPart>(),
                               to};
          };
          std::vector<float> together = residual, alone = residual;
          launch(level, pool, product(together), weights);
          for (int64_t row = 0; row < m; ++row) multiply_alone(level, pool, product(alone), row, weights);
          if (std::memcmp(together.data(), alone.data(), together.size() * sizeof(float)) != 0)
            lowrank::test::report(__FILE__, __LINE__,
                                  name + " of " + std::to_string(in) + " columns at " + name_of(level) + ", " +
                                      (has_parts ? "with" : "without") + " parts: other bits than alone");
        }
      }
    });
  }
}

/// Empty text is as good as none.
void set_environment(const char* name, const char* value) {
#if defined(_WIN32)
  _putenv_s(name, value);
#else
  setenv(name, value, 1);
#endif
}

TEST("LOWRANK_ISA chooses the level and an unknown name is refused with the choices") {
  const char* set = std::getenv("LOWRANK_ISA");
  const std::string before = set == nullptr ? "" : set;
  for (Level level : kLevels) {
    set_environment("LOWRANK_ISA", name_of(level));
    CHECK(default_level() == level);
    if (available(level)) {
      CHECK(kernels(level).level == level);
    } else {
      CHECK_THROWS(kernels(level), "this machine does not support");
    }
  }
  set_environment("LOWRANK_ISA", "sse9");
  CHECK_THROWS(default_level(), "reference, neon, neonbf16, avx2, avx512, avx512bf16, amx");
  set_environment("LOWRANK_ISA", "");
  CHECK(available(default_level()));
  set_environment("LOWRANK_ISA", before.c_str());
}

}  // namespace
