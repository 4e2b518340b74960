// Short convolutions, every level and operand type, against their definition in double; gradients against finite
// differences.
#include <functional>
#include <string>

#include "ops_support.h"

namespace lowrank::test {
namespace {

constexpr int64_t kCols[] = {1, 7, 17, 72, 130};
constexpr int32_t kTaps[] = {1, 2, 3, 4, 7};
/// Sequences of one and two tokens between others.
constexpr int64_t kLengths[] = {5, 1, 4, 2, 1, 9};
constexpr int64_t kRows = 22;

double tolerance(DType dtype) { return dtype == DType::f32 ? 2e-6 : 4e-3; }

std::vector<int32_t> positions_of_rows() {
  std::vector<int32_t> positions;
  for (const int64_t length : kLengths)
    for (int32_t at = 0; at < length; ++at) positions.push_back(at);
  return positions;
}

std::vector<float> floats(Random& random, int64_t count) {
  std::vector<float> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(static_cast<float>(random.normal()));
  return result;
}

double silu(double x) { return x / (1 + std::exp(-x)); }

/// C conv(B X), or silu(conv(x)) if it is not gated, sequence by sequence. All arguments as plain numbers: x [rows, 3
/// cols] or [rows, cols], w [cols, taps], bias [cols].
std::vector<double> expected(bool gated, const std::vector<double>& x, const std::vector<double>& w,
                             const std::vector<double>& bias, int64_t cols, int64_t taps) {
  const int64_t width = gated ? 3 * cols : cols;
  std::vector<double> out;
  int64_t first = 0;
  for (const int64_t length : kLengths) {
    for (int64_t t = first; t < first + length; ++t) {
      for (int64_t c = 0; c < cols; ++c) {
        double sum = bias.empty() ? 0 : bias[c];
        for (int64_t j = 0; j < taps; ++j) {
          const int64_t from = t - (taps - 1) + j;
          if (from >= first)
            sum += w[c * taps + j] * x[from * width + c] * (gated ? x[from * width + 2 * cols + c] : 1);
        }
        out.push_back(gated ? sum * x[t * width + cols + c] : silu(sum));
      }
    }
    first += length;
  }
  return out;
}

/// Gradient at every number of `of` by central differences of a smooth function.
std::vector<double> numeric_gradient(std::vector<double>& of, const std::function<double()>& loss) {
  std::vector<double> gradient;
  for (double& value : of) {
    const double saved = value;
    value = saved + 1e-3;
    const double above = loss();
    value = saved - 1e-3;
    const double below = loss();
    value = saved;
    gradient.push_back((above - below) / 2e-3);
  }
  return gradient;
}

struct Conv {
  cpu::Level level;
  DType dtype;
  int64_t cols;
  int32_t taps;
  bool biased, gated;
  Random random{static_cast<uint64_t>(cols * 10 + taps)};
  std::vector<int32_t> positions = positions_of_rows();
  int64_t width = gated ? 3 * cols : cols;
  Tensor x{dtype, kRows, width, random};
  std::vector<float> w = floats(random, cols* taps), bias = floats(random, cols);

  ConvWeights conv() const { return {gated, cols, taps, ptr(w), biased ? ptr(bias) : Ptr<float>()}; }
  ShortConv forward(Tensor& out) { return {kRows, conv(), x.at(), ptr(positions), {}, out.at()}; }
  SiluConvSlope slope(Tensor& dout, Tensor& dconv) {
    return {kRows, conv(), x.at(), ptr(positions), dout.at(), dconv.at()};
  }
  ShortConvBackward backward(Tensor& dout, Tensor& dx) {
    return {kRows, conv(), x.at(), ptr(positions), dout.at(), dx.at()};
  }
  ShortConvGradient gradient(Tensor& dout, Ptr<float> dw, Ptr<float> dbias) {
    return {kRows, conv(), x.at(), ptr(positions), dout.at(), dw, dbias};
  }
  std::vector<double> weights() const { return {w.begin(), w.end()}; }
  std::vector<double> biases() const {
    return biased ? std::vector<double>(bias.begin(), bias.end()) : std::vector<double>();
  }
};

template <class Body>
void for_cases(Body&& body) {
  for_levels([&](cpu::Level level) {
    for (const DType dtype : kOperandTypes)
      for (const int64_t cols : kCols)
        for (const int32_t taps : kTaps)
          for (const bool gated : {true, false}) {
            Conv one{level, dtype, cols, taps, cols % 2 == 0, gated};
            body(one);
          }
  });
}

}  // namespace

TEST("short_conv starts anew at each packed sequence") {
  for_cases([](Conv& c) {
    Pool pool(2);
    Tensor out(c.dtype, kRows, c.cols);
    run(c.level, pool, c.forward(out));
    CHECK_ALL_CLOSE(out.values(), expected(c.gated, c.x.values(), c.weights(), c.biases(), c.cols, c.taps),
                    tolerance(c.dtype));
    CHECK(out.spare_untouched());
  });
}

TEST("the gradients of short_conv are those of its definition") {
  for_cases([](Conv& c) {
    if (c.cols > 20) return;  // finite differences of every element
    Pool pool(2);
    Tensor dout(c.dtype, kRows, c.cols, c.random), dx(c.dtype, kRows, c.width);
    Tensor dconv(c.dtype, kRows, c.cols);
    std::vector<double> x = c.x.values(), w = c.weights(), bias(c.bias.begin(), c.bias.end());
    const std::vector<double> d = dout.values();
    const auto loss = [&] {
      const std::vector<double> out = expected(c.gated, x, w, c.biased ? bias : std::vector<double>(), c.cols, c.taps);
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * d[i];
      return sum;
    };
    if (c.gated)
      dconv = dout;
    else
      run(c.level, pool, c.slope(dout, dconv));
    CHECK(dconv.spare_untouched());
    run(c.level, pool, c.backward(dconv, dx));
    CHECK_ALL_CLOSE(dx.values(), numeric_gradient(x, loss), tolerance(c.dtype));
    CHECK(dx.spare_untouched());

    std::vector<float> dw = floats(c.random, c.cols * c.taps), dbias = floats(c.random, c.cols);
    std::vector<double> wanted = numeric_gradient(w, loss);
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] += dw[i];
    std::vector<float> other = dbias;
    run(c.level, pool, c.gradient(dconv, ptr(dw), ptr(dbias)));
    CHECK_ALL_CLOSE(std::vector<double>(dw.begin(), dw.end()), wanted, c.gated ? 2e-6 : 2 * tolerance(c.dtype));
    std::vector<double> wanted_bias(other.begin(), other.end());
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < c.cols; ++col)
        wanted_bias[col] += dconv.get(row, col) * (c.gated ? c.x.get(row, c.cols + col) : 1);
    CHECK_ALL_CLOSE(std::vector<double>(dbias.begin(), dbias.end()), wanted_bias, 2e-6);
    run(c.level, pool, c.gradient(dconv, {}, ptr(other)));
    CHECK(other == dbias);
  });
}

TEST("a text in pieces gives the convolution of the whole, from its end or from the end of a block") {
  constexpr int64_t kBlock = 4, kText = 21;
  for_levels([&](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      for (const auto& [taps, gated] : {std::pair(2, true), {3, true}, {4, true}, {4, false}}) {
        Pool pool(2);
        Random random(static_cast<uint64_t>(taps));
        const int64_t cols = 17, count = taps - 1;
        Tensor x(dtype, kText, gated ? 3 * cols : cols, random), whole(dtype, kText, cols);
        const std::vector<float> w = floats(random, cols * taps);
        std::vector<int32_t> positions;
        for (int32_t i = 0; i < kText; ++i) positions.push_back(i);
        std::vector<float> last(static_cast<size_t>(count * cols), NAN),
            ends(static_cast<size_t>(6 * count * cols), NAN);
        const auto piece = [&](int64_t begin, int64_t rows, Tensor& out) {
          const Matrix from = x.at().rows(begin), earlier = f32_matrix(ptr(last), cols);
          const Matrix at_ends = f32_matrix(ptr(ends), cols).rows(begin / kBlock * count);
          const Ptr<int32_t> own = ptr(positions) + begin;
          run(level, pool, ShortConv{rows, {gated, cols, taps, ptr(w), {}}, from, own, earlier, out.at().rows(begin)});
          run(level, pool,
              KeepConvInputs{rows, begin, gated, cols, static_cast<int32_t>(count), kBlock, from, own, earlier,
                             at_ends});
        };
        piece(0, kText, whole);
        for (const int64_t size : {1, 2, 5, 8}) {
          Tensor out(dtype, kText, cols);
          for (int64_t begin = 0; begin < kText; begin += size) piece(begin, std::min(size, kText - begin), out);
          CHECK(out == whole);
        }
        Tensor out = whole;
        for (int64_t col = 0; col < cols; ++col)
          for (int64_t row = 8; row < kText; ++row) out.set(row, col, 0);
        std::copy_n(ends.begin() + count * cols, count * cols, last.begin());  // those of the second block
        piece(8, kText - 8, out);
        CHECK(out == whole);
      }
    }
  });
}

TEST("short convolutions have the same bits for one, two and three threads") {
  for_levels([](cpu::Level level) {
    for (const DType dtype : kOperandTypes) {
      std::vector<Tensor> results[3];
      for (int threads = 1; threads <= 3; ++threads) {
        Pool pool(threads);
        Conv c{level, dtype, 1031, 3, true, true};
        Tensor out(dtype, kRows, c.cols), dout(dtype, kRows, c.cols, c.random), dx(dtype, kRows, 3 * c.cols);
        Tensor dw(DType::f32, 1, 3 * c.cols, c.random), dbias(DType::f32, 1, c.cols, c.random);
        run(level, pool, c.forward(out));
        run(level, pool, c.backward(dout, dx));
        run(level, pool, c.gradient(dout, cpu::address_of(dw.data<float>()), cpu::address_of(dbias.data<float>())));
        results[threads - 1] = {out, dx, dw, dbias};
      }
      CHECK(results[0] == results[1]);
      CHECK(results[0] == results[2]);
    }
  });
}

}  // namespace lowrank::test
