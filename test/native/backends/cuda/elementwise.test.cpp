#include "backends/cuda/runs.h"

#include <numeric>

#include "backends/cuda/bench.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

struct Shape {
  int64_t rows, cols, spare;
};
/// Widths around a vector's and a block's, and rows that begin at any address.
constexpr Shape kShapes[] = {{1, 1, 0}, {7, 8, 0}, {3, 63, 1}, {5, 64, 8}, {2, 65, 0}, {129, 9, 3}, {2, 2056, 0}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

template <class Body>
void for_shapes(Body&& body) {
  for (const Shape& shape : kShapes)
    for (const DType type : kTypes) body(shape, type);
}

/// Some of `count` numbers, each once, not in order.
std::vector<int32_t> distinct(int64_t some, int64_t count) {
  std::vector<int32_t> all(static_cast<size_t>(some));
  for (int64_t i = 0; i < some; ++i) all[static_cast<size_t>(i)] = static_cast<int32_t>((some + 2 - i) % count);
  return all;
}

}  // namespace

namespace {

void check_gated_unit(lowrank::Activation function) {
  for_shapes([&](const Shape& s, DType type) {
    check_like_cpu(
        [&](Bench& bench) {
          const auto matrix = [&] { return bench.matrix(type, s.rows, s.cols, s.spare, 3); };
          const Matrix gate = matrix(), up = matrix();
          return GatedUnit{function, s.rows, s.cols, gate, up, bench.empty(type, s.rows, s.cols, s.spare)};
        },
        {});
    for (const bool in_place : {false, true}) {
      check_like_cpu(
          [&](Bench& bench) {
            const auto matrix = [&] { return bench.matrix(type, s.rows, s.cols, s.spare, 3); };
            const Matrix dout = matrix(), gate = matrix(), up = matrix();
            if (in_place) return GatedUnitBackward{function, s.rows, s.cols, dout, gate, up, gate, up};
            const Matrix dgate = bench.empty(type, s.rows, s.cols, s.spare);
            return GatedUnitBackward{function, s.rows, s.cols, dout,
                                     gate,     up,     dgate,  bench.empty(type, s.rows, s.cols, s.spare)};
          },
          {4e-6, 1});
    }
  });
}

}  // namespace

TEST("CUDA's gated units and their gradients equal the CPU's, in place too") {
  for (size_t function = 0; function < std::size(kActivationNames); ++function)
    check_gated_unit(static_cast<lowrank::Activation>(function));
}

TEST("CUDA's rope equals the CPU's, of whole heads and of their first columns, both ways") {
  for (const DType type : kTypes) {
    struct Heads {
      int heads, head_dim, turned;
    };
    for (const auto& [heads, head_dim, turned] :
         {Heads{1, 2, 2}, {3, 6, 6}, {2, 16, 16}, {5, 64, 64}, {1, 80, 80}, {3, 6, 4}, {2, 64, 48}, {3, 20, 16}}) {
      for (const int64_t rows : {1, 7, 65}) {
        for (const bool inverse : {false, true}) {
          check_like_cpu(
              [&](Bench& bench) {
                std::vector<int32_t> positions(static_cast<size_t>(rows));
                for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i * 5 % 9);
                const Matrix x = bench.matrix(type, rows, int64_t{heads} * head_dim, head_dim % 16);
                const Ptr<float> cos = bench.floats(9 * turned / 2), sin = bench.floats(9 * turned / 2);
                return Rope{rows, heads, head_dim, turned, x, bench.ints(positions), cos, sin, inverse};
              },
              {1e-6, 4});
        }
      }
    }
  }
}

TEST("CUDA gathers rows, and adds them to others, between all types") {
  for_shapes([](const Shape& s, DType type) {
    for (const DType to : kTypes) {
      for (const bool all : {false, true}) {
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix x = bench.matrix(type, s.rows + 4, s.cols, s.spare);
              const Ptr<int32_t> rows = all ? Ptr<int32_t>() : bench.ints(distinct(s.rows, s.rows + 4));
              return GatherRows{s.rows, s.cols, x, rows, bench.empty(to, s.rows, s.cols, 1)};
            },
            kSameBits);
      }
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.cols, s.spare);
            const Ptr<int32_t> rows = bench.ints(distinct(s.rows, s.rows + 4));
            return ScatterAddRows{s.rows, s.cols, x, rows, bench.matrix(to, s.rows + 4, s.cols, 1)};
          },
          kSameBits);
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.cols, s.spare);
            return ScatterAddRows{s.rows, s.cols, x, {}, bench.matrix(to, s.rows, s.cols, 1)};
          },
          kSameBits);
    }
  });
}

TEST("CUDA zeros, rounds and adds a constant as the CPU does") {
  for (const int64_t count : {1, 7, 8, 64, 2049}) {
    check_like_cpu([&](Bench& bench) { return Zero{bench.floats(count).as<std::byte>(), count * 4}; }, kSameBits);
    check_like_cpu([&](Bench& bench) { return AddConstant{count, 0.3f, bench.floats(count)}; }, kSameBits);
    for (const int64_t first : {0, 1}) {
      check_like_cpu(
          [&](Bench& bench) {
            const Ptr<float> from = bench.floats(count + 1);
            return Cast{count, from + first, (bench.empty(DType::bf16, 1, count + 1).data).as<uint16_t>() + first};
          },
          kSameBits);
    }
  }
}

TEST("CUDA's dropout has the CPU's masks, forward and backward") {
  for_shapes([](const Shape& s, DType type) {
    for (const float p : {0.1f, 0.5f, 1.0f}) {
      if (p == 1.0f && type == DType::bf16) continue;
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.cols, s.spare);
            return Dropout{s.rows, s.cols, x, p, 99, bench.empty(type, s.rows, s.cols, 2)};
          },
          kSameBits);
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix x = bench.matrix(type, s.rows, s.cols, s.spare);
            return DropoutBackward{s.rows, s.cols, x, p, 99, bench.matrix(DType::f32, s.rows, s.cols, 2)};
          },
          {1e-6, 1});
    }
  });
}

TEST("CUDA's noise on embeddings is the CPU's, of a bound for each sequence") {
  static const std::vector<int32_t> kStarts[] = {{0, 1}, {0, 3, 7}, {0, 5, 5, 6, 70}};
  for (const std::vector<int32_t>& starts : kStarts) {
    for (const int64_t cols : {1, 7, 64, 2056}) {
      for (const int64_t spare : {0, 1}) {
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix y = bench.matrix(DType::f32, starts.back(), cols, spare);
              return AddNoise{starts.back(), cols, starts, 5, 99, y};
            },
            {1e-6, 1});
      }
    }
  }
}

TEST("CUDA scales columns as the CPU does, with a bias and an addend, in place too") {
  for_shapes([](const Shape& s, DType type) {
    for (const DType to : kTypes) {
      for (int with = 0; with < 4; ++with) {
        check_like_cpu(
            [&](Bench& bench) {
              const Matrix x = bench.matrix(type, s.rows, s.cols, s.spare);
              const Ptr<float> gain = bench.floats(s.cols);
              const Ptr<float> bias = with & 1 ? bench.floats(s.cols) : Ptr<float>();
              const Matrix addend = with & 2 ? bench.matrix(DType::f32, s.rows, s.cols, 1) : Matrix();
              const bool in_place = with == 3 && to == type;
              return ScaleColumns{
                  s.rows, s.cols, x, gain, bias, addend, in_place ? x : bench.empty(to, s.rows, s.cols, 2)};
            },
            {1e-6, 1});
      }
    }
  });
}
