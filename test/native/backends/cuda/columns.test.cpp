#include "backends/cuda/bench.h"
#include "backends/cuda/runs.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

constexpr std::pair<int64_t, int64_t> kShapes[] = {{1, 1}, {7, 63}, {64, 8}, {129, 40}, {33, 300}, {2200, 5}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

std::vector<int32_t> some_ids(int64_t tokens, int32_t vocab) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * i * 3 % 17 % static_cast<size_t>(vocab));
  return ids;
}

}  // namespace

TEST("CUDA's gradients of norms, biases and magnitudes equal the CPU's") {
  for (const auto& [rows, cols] : kShapes) {
    for (const DType type : kTypes) {
      for (const DType x_type : kTypes) {
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(type, rows, cols, cols % 3), x = bench.matrix(x_type, rows, cols, 1);
              const Ptr<float> rstd = bench.floats(rows);
              return NormGradient{rows, 1, cols, dy, x, rstd, bench.floats(cols)};
            },
            {4e-6, 40});
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(type, rows, cols), x = bench.matrix(x_type, rows, cols, 1);
              const Ptr<float> gain = bench.floats(cols), share = bench.floats(cols);
              const Matrix dx = cols == 40 ? dy : bench.empty(type, rows, cols, 2);
              return ScaleColumnsBackward{rows, cols, dy, x, gain, share, dx, bench.floats(cols)};
            },
            {4e-6, 40});
      }
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix dy = bench.matrix(type, rows, cols, cols % 3);
            return BiasGradient{rows, cols, dy, bench.floats(cols)};
          },
          {4e-6, 40});
    }
  }
}

TEST("CUDA adds rows and columns of repeated ids in the order of the tokens") {
  for (const int64_t tokens : {1, 7, 65, 600}) {
    for (const DType type : kTypes) {
      for (const int64_t cols : {1, 9, 64, 2060}) {
        if (cols == 2060 && tokens == 600) continue;
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix dy = bench.matrix(type, tokens, cols, cols % 3);
              return EmbeddingGradient{tokens, cols, bench.ints(some_ids(tokens, 11)), dy, bench.floats(11 * cols)};
            },
            kSameBits);
      }
    }
    for (const int64_t ranks : {1, 8, 300}) {
      check_like_cpu(
          [&](Bench& bench) {
            const Ptr<float> a = bench.floats(ranks * 13);
            return GatherColumns{tokens, bench.ints(some_ids(tokens, 13)), ranks, 13,
                                 a,      bench.floats(tokens * ranks, 0)};
          },
          kSameBits);
      for (const int64_t first : {0, 5}) {
        check_like_cpu(
            [&](Bench& bench) {
              const Ptr<float> dh = bench.floats(tokens * ranks);
              return ScatterColumns{tokens, bench.ints(some_ids(tokens, 13)), first, ranks, 13,
                                    dh,     bench.floats(ranks * 13)};
            },
            kSameBits);
      }
    }
  }
}

TEST("CUDA draws rows as the CPU does, and divides magnitudes as it does") {
  for (const int64_t rows : {1, 63, 1025}) {
    for (const auto& [row, all, rescale] : {std::tuple(0.3f, 0.0f, true),
                                            {0.3f, 0.2f, false},
                                            {0.0f, 0.99f, true},
                                            {1.0f, 0.0f, true},
                                            {0.0f, 0.0f, true}}) {
      for (const uint64_t key : {uint64_t{1}, uint64_t{0x123456789abcdef0}})
        check_like_cpu([&](Bench& bench) { return DrawRows{rows, row, all, rescale, key, bench.floats(rows, 0)}; },
                       kSameBits);
    }
    check_like_cpu(
        [&](Bench& bench) {
          const Ptr<float> m = bench.floats(rows), c = bench.floats(rows);
          return AddRatios{rows, 0.7f, m, c, bench.floats(rows)};
        },
        kSameBits);
    for (const bool with : {false, true}) {
      check_like_cpu(
          [&](Bench& bench) {
            const Ptr<float> m = with ? bench.floats(rows) : Ptr<float>(), c = bench.floats(rows);
            const Ptr<float> gain = bench.floats(rows);
            bench.last().set(0, rows / 2, 0);
            return RatiosOver{rows, m, c, gain, bench.floats(rows, 0)};
          },
          kSameBits);
      check_like_cpu(
          [&](Bench& bench) {
            const Ptr<float> m = bench.floats(rows);
            bench.last().set(0, rows / 3, 0);
            const Ptr<float> c = bench.floats(rows), gain = bench.floats(rows, 0);
            return MagnitudeGains{rows, m, c, with, gain, bench.floats(rows, 0)};
          },
          kSameBits);
    }
  }
}
