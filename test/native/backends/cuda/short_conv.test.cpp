#include "backends/cuda/bench.h"
#include "backends/cuda/runs.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

struct Shape {
  int64_t rows, cols;
  int32_t taps;
  int64_t width(bool gated) const { return gated ? 3 * cols : cols; }
};
constexpr Shape kShapes[] = {{1, 1, 1}, {7, 8, 3}, {23, 65, 4}, {40, 9, 2}, {70, 264, 3}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

/// Sequences of one, two, and more tokens.
std::vector<int32_t> packed(int64_t rows) {
  std::vector<int32_t> positions;
  for (int32_t length = 1; static_cast<int64_t>(positions.size()) < rows; length = length % 6 + 1)
    for (int32_t at = 0; at < length; ++at) positions.push_back(at);
  positions.resize(static_cast<size_t>(rows));
  return positions;
}

std::vector<int32_t> continued(int64_t rows, int32_t past) {
  std::vector<int32_t> positions;
  for (int32_t i = 0; i < rows; ++i) positions.push_back(past + i);
  return positions;
}

ConvWeights weights(Bench& bench, const Shape& s, bool gated) {
  const Ptr<float> w = bench.floats(s.cols * s.taps);
  return {gated, s.cols, s.taps, w, s.cols % 2 == 0 ? Ptr<float>() : bench.floats(s.cols)};
}

template <class Body>
void for_shapes(Body&& body) {
  for (const Shape& shape : kShapes)
    for (const DType type : kTypes)
      for (const bool gated : {true, false}) body(shape, type, gated);
}

}  // namespace

TEST("CUDA's short convolutions and their gradients equal the CPU's, of packed sequences") {
  for_shapes([](const Shape& s, DType type, bool gated) {
    const int64_t spare = s.cols % 3;
    check_like_cpu(
        [&](Bench& bench) {
          const ConvWeights conv = weights(bench, s, gated);
          const Matrix x = bench.matrix(type, s.rows, s.width(gated), spare);
          return ShortConv{s.rows, conv, x, bench.ints(packed(s.rows)), {}, bench.empty(type, s.rows, s.cols, spare)};
        },
        {4e-6, 4});
    if (!gated)
      check_like_cpu(
          [&](Bench& bench) {
            const ConvWeights conv = weights(bench, s, gated);
            const Matrix x = bench.matrix(type, s.rows, s.cols, spare), dout = bench.matrix(type, s.rows, s.cols);
            return SiluConvSlope{
                s.rows, conv, x, bench.ints(packed(s.rows)), dout, bench.empty(type, s.rows, s.cols, spare)};
          },
          {4e-6, 4});
    check_like_cpu(
        [&](Bench& bench) {
          const ConvWeights conv = weights(bench, s, gated);
          const Matrix x = bench.matrix(type, s.rows, s.width(gated), spare), dout = bench.matrix(type, s.rows, s.cols);
          return ShortConvBackward{
              s.rows, conv, x, bench.ints(packed(s.rows)), dout, bench.empty(type, s.rows, s.width(gated), spare)};
        },
        {4e-6, 10});
    for (const auto& [weighted, biased] : {std::pair(true, true), {true, false}, {false, true}}) {
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.width(gated), spare),
                         dout = bench.matrix(type, s.rows, s.cols);
            const Ptr<float> dw = weighted ? bench.floats(s.cols * s.taps) : Ptr<float>();
            const Ptr<float> dbias = biased ? bench.floats(s.cols) : Ptr<float>();
            return ShortConvGradient{s.rows, {gated, s.cols, s.taps, {}, {}}, x, bench.ints(packed(s.rows)), dout, dw,
                                     dbias};
          },
          {4e-6, 40});
    }
  });
}

TEST("CUDA's short convolutions go on after a cache and keep inputs as the CPU does") {
  constexpr int64_t kBlock = 8;
  for_shapes([](const Shape& s, DType type, bool gated) {
    if (s.taps == 1) return;
    const int64_t count = s.taps - 1;
    for (const int32_t past : {0, 1, 2, 7, 8, 21}) {
      check_like_cpu(
          [&](Bench& bench) {
            const ConvWeights conv = weights(bench, s, gated);
            const Matrix x = bench.matrix(type, s.rows, s.width(gated)),
                         earlier = bench.matrix(DType::f32, count, s.cols);
            return ShortConv{
                s.rows, conv, x, bench.ints(continued(s.rows, past)), earlier, bench.empty(type, s.rows, s.cols)};
          },
          {4e-6, 4});
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.width(gated), 1),
                         last = bench.matrix(DType::f32, count, s.cols);
            const int64_t blocks = (past + s.rows - 1) / kBlock + 1;
            const Matrix ends = bench.matrix(DType::f32, blocks * count, s.cols);
            return KeepConvInputs{s.rows,
                                  past,
                                  gated,
                                  s.cols,
                                  static_cast<int32_t>(count),
                                  kBlock,
                                  x,
                                  bench.ints(continued(s.rows, past)),
                                  last,
                                  ends.rows(past / kBlock * count)};
          },
          kSameBits);
    }
  });
}
