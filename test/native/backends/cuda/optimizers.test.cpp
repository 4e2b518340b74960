#include <list>

#include "backends/cuda/bench.h"
#include "quant/dynamic.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

/// Counts around a vector, a block of 8-bit state and a block of threads.
constexpr int64_t kCounts[] = {1, 7, 64, 255, 257, 2047, 2049, 5000};

enum class State { none, floats, codes };

/// Pieces of a kernel, which refers to them.
std::span<const UpdatePiece> keep(std::vector<UpdatePiece> pieces) {
  static std::list<std::vector<UpdatePiece>> kept;
  kept.push_back(std::move(pieces));
  if (kept.size() > 8) kept.pop_front();
  return kept.back();
}

Moments moments(Bench& bench, int64_t count, int64_t stride, State state, bool is_signed) {
  if (state == State::none) return {};
  if (state == State::floats) {
    const Ptr<float> floats = bench.floats(count * stride, 0.01);
    if (!is_signed)
      for (int64_t i = 0; i < count * stride; ++i) bench.last().set(0, i, std::fabs(bench.last()(0, i)));
    return {floats};
  }
  const Ptr<uint8_t> codes = bench.bytes(count);
  const int64_t blocks = (count + kMomentBlock - 1) / kMomentBlock;
  const Ptr<float> absmax = bench.floats(blocks, 0.01);
  for (int64_t i = 0; i < blocks; ++i) bench.last().set(0, i, i % 5 == 4 ? 0 : std::fabs(bench.last()(0, i)));
  return {{}, codes, absmax};
}

UpdatePiece piece(Bench& bench, int64_t count, int64_t stride, State m, State v, int64_t step) {
  UpdatePiece piece;
  piece.count = count;
  piece.stride = stride;
  piece.p = bench.floats(count * stride);
  piece.gradient = bench.floats(count * stride, 0.1);
  if (count > 9) bench.last().set(0, 9, 0);
  piece.m = moments(bench, count, stride, m, true);
  piece.v = moments(bench, count, stride, v, false);
  piece.learning_rate = 0.01f;
  piece.weight_decay = step % 2 == 0 ? 0.1f : 0;
  piece.step = step;
  return piece;
}

}  // namespace

TEST("CUDA's AdamW, SGD and Lion equal the CPU's in fp32, many pieces at a time and numbers that lie apart too") {
  for (const int64_t stride : {1, 3}) {
    const auto pieces = [&](Bench& bench, State m, State v) {
      std::vector<UpdatePiece> all;
      for (int64_t i = 0; i < 80; ++i) all.push_back(piece(bench, i < 8 ? kCounts[i] : i, stride, m, v, i + 1));
      return keep(all);
    };
    check_like_cpu(
        [&](Bench& bench) { return AdamW{0.9f, 0.99f, 1e-8f, 0.5f, pieces(bench, State::floats, State::floats)}; },
        {2e-6, 1e-2});
    for (const State m : {State::none, State::floats})
      check_like_cpu([&](Bench& bench) { return Sgd{0.9f, 0.5f, pieces(bench, m, State::none)}; }, {2e-6, 1e-2});
    check_like_cpu([&](Bench& bench) { return Lion{0.9f, 0.99f, 0.5f, pieces(bench, State::floats, State::none)}; },
                   {2e-6, 1e-2});
  }
}

TEST("CUDA's optimizers give the bits of the CPU's vector levels, 8-bit codes included") {
  if (!cpu::available(cpu::Level::avx2)) SKIP("this machine has no AVX2");
  for (const State state : {State::floats, State::codes}) {
    const auto pieces = [&](Bench& bench, State v) {
      std::vector<UpdatePiece> all;
      for (int64_t i = 0; i < 24; ++i)
        all.push_back(piece(bench, i < 8 ? kCounts[i] : 250 + i, 1, state, v == State::none ? v : state, i + 1));
      return keep(all);
    };
    check_like_cpu([&](Bench& bench) { return AdamW{0.9f, 0.99f, 1e-8f, 0.5f, pieces(bench, state)}; }, kSameBits,
                   cpu::Level::avx2);
    if (state == State::floats) {
      check_like_cpu([&](Bench& bench) { return Sgd{0.9f, 0.5f, pieces(bench, State::none)}; }, kSameBits,
                     cpu::Level::avx2);
    }
    check_like_cpu([&](Bench& bench) { return Lion{0.9f, 0.99f, 0.5f, pieces(bench, State::none)}; }, kSameBits,
                   cpu::Level::avx2);
  }
}

TEST("CUDA's Adafactor equals the CPU's, for matrices and vectors") {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>(1, 1), {7, 65}, {130, 63}, {3, 300}, {1, 9000}}) {
    for (const bool scales : {false, true}) {
      check_like_cpu(
          [&](Bench& bench) {
            const auto positive = [&](int64_t count) {
              const Ptr<float> at = bench.floats(count, 0.01);
              for (int64_t i = 0; i < count; ++i) bench.last().set(0, i, std::fabs(bench.last()(0, i)) + 1e-4);
              return at;
            };
            Adafactor k{};
            k.settings.scale_parameter = scales;
            k.learning_rate = 0.1;
            k.weight_decay = 0.01;
            k.step = 3;
            k.grad_scale = 0.5;
            k.rows = rows;
            k.cols = cols;
            k.gradient = bench.floats(rows * cols);
            if (rows == 1)
              k.v = positive(cols);
            else
              k.row = positive(rows), k.column = positive(cols);
            k.p = bench.floats(rows * cols);
            return k;
          },
          {2e-6, 1e-2});
    }
  }
}

TEST("CUDA sums squares in double") {
  for_each_execution([](Runner& run) {
    for (const int64_t count : {0, 1, 7, 257, 8192, 8193, 40000}) {
      test::Random random(3);
      Tensor x(run, DType::f32, 1, count, random);
      double* const out = run.buffer<double>(1);
      const SumOfSquares k{count, x.floats(), address_of(out)};
      lowrank::cuda::run(run, k, room_for(run, k));
      double sum = 0;
      for (int64_t i = 0; i < count; ++i) sum += x(0, i) * x(0, i);
      CHECK_CLOSE(*out, sum, 1e-13);
    }
  });
}

TEST("CUDA projects gradients as the CPU does") {
  for (const auto& [rank, cols, rows] :
       {std::tuple<int64_t, int64_t, int64_t>(1, 1, 1), {5, 40, 300}, {17, 64, 7}, {33, 129, 65}}) {
    check_like_cpu(
        [&](Bench& bench) {
          const Ptr<float> a = bench.floats(rank * cols);
          return ProjectGradient{rank, cols, a, rows, 2, bench.floats(rows * rank)};
        },
        {1e-5, 1e-3});
  }
}

TEST("CUDA's gradient of orthogonality equals the CPU's, of many pieces by rows and by columns") {
  for (const size_t count : {size_t{1}, size_t{70}}) {
    check_like_cpu(
        [&](Bench& bench) {
          static std::list<std::vector<OrthogonalPiece>> kept;
          std::vector<OrthogonalPiece>& pieces = kept.emplace_back();
          if (kept.size() > 8) kept.pop_front();
          for (size_t i = 0; i < count; ++i) {
            const auto rows = static_cast<int64_t>(i * 7 % 300 + 1), rank = static_cast<int64_t>(i % 9 + 1);
            const Ptr<float> x = bench.floats(rows * rank, 0.3);
            pieces.push_back({rows, rank, i % 2 == 0, 0.5f, x, bench.floats(rows * rank)});
          }
          return Orthogonal{pieces};
        },
        {2e-6, 1});
  }
}

TEST("CUDA follows importances bit for bit as the CPU does") {
  for (const int64_t count : kCounts) {
    check_like_cpu(
        [&](Bench& bench) {
          const Ptr<float> value = bench.floats(count), gradient = bench.floats(count);
          const Ptr<float> sensitivity = bench.floats(count);
          return FollowImportances{count, 0.85f, 0.9f, 0.7f, value, gradient, sensitivity, bench.floats(count)};
        },
        kSameBits);
  }
}
