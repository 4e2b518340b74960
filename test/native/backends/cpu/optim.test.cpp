// The optimizer's kernels: the same bits at any number of threads, within the room that they promise.
#include "kernels/optimizer_kernels.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/device.h"
#include "check.h"
#include "core/memory.h"
#include "core/random.h"

using namespace lowrank;

namespace {

std::vector<float> numbers(int64_t count, uint64_t key) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(draw(key, i) - 0.5);
  return values;
}

/// Launches with the promised room and not a byte more: what follows it must stay as it was.
void launch(int threads, const Kernel& kernel) {
  constexpr int64_t kGuard = 4096;
  Pool pool(threads);
  cpu::CpuDevice device(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(threads));
  const int64_t bytes = device.sizes().workspace(kernel);
  const Block room(Category::workspace, bytes + kGuard);
  std::fill_n(room.data() + bytes, kGuard, std::byte{0x5a});
  device.launch(kernel, cpu::address_of(room.data()));
  const std::byte* const end = room.data() + bytes;
  CHECK(std::all_of(end, end + kGuard, [](std::byte b) { return b == std::byte{0x5a}; }));
}

/// Result of a kernel on an array, which is the same with one thread and with three.
std::vector<float> made(const std::vector<float>& from, const auto& kernel_on) {
  std::vector<float> one = from, three = from;
  launch(1, kernel_on(cpu::address_of(one.data())));
  launch(3, kernel_on(cpu::address_of(three.data())));
  CHECK(one == three);
  return one;
}

}  // namespace

TEST("numbers that lie apart are updated as those side by side, each with its own count, and no others") {
  constexpr int64_t kRows = 1300, kRank = 5;
  const std::vector<float> g = numbers(kRows * kRank, 1), m = numbers(kRows * kRank, 2);
  std::vector<float> v = numbers(kRows * kRank, 3);
  for (float& value : v) value = std::fabs(value);
  const std::vector<float> p = made(numbers(kRows * kRank, 4), [&](Ptr<float> at) {
    static std::vector<float> state[2];
    static std::vector<UpdatePiece> pieces;
    state[0] = m, state[1] = v, pieces.clear();
    for (const int64_t rank : {0, 1, 3})
      pieces.push_back({kRows,
                        kRank,
                        at + rank,
                        cpu::address_of(g.data()) + rank,
                        {cpu::address_of(state[0].data()) + rank},
                        {cpu::address_of(state[1].data()) + rank},
                        0.1f,
                        0.01f,
                        rank + 1});
    return AdamW{0.9f, 0.99f, 1e-8f, 0.5f, pieces};
  });
  const std::vector<float> before = numbers(kRows * kRank, 4);
  for (int64_t rank = 0; rank < kRank; ++rank) {
    const auto column = [&](const std::vector<float>& matrix) {
      std::vector<float> values(kRows);
      for (int64_t i = 0; i < kRows; ++i) values[i] = matrix[i * kRank + rank];
      return values;
    };
    std::vector<float> own = column(before), own_m = column(m), own_v = column(v);
    const std::vector<float> own_g = column(g);
    const UpdatePiece piece{kRows,
                            1,
                            cpu::address_of(own.data()),
                            cpu::address_of(own_g.data()),
                            {cpu::address_of(own_m.data())},
                            {cpu::address_of(own_v.data())},
                            0.1f,
                            0.01f,
                            rank + 1};
    if (rank != 2 && rank != 4) launch(1, AdamW{0.9f, 0.99f, 1e-8f, 0.5f, {&piece, 1}});
    CHECK(column(p) == own);
  }
}

TEST("a projected gradient solves for the Gram matrix of A") {
  for (const int64_t rank : {1, 5, 17}) {
    constexpr int64_t kIn = 40, kOut = 150;
    const std::vector<float> a = numbers(rank * kIn, 1), g = numbers(kOut * rank, 2);
    const std::vector<float> x =
        made(g, [&](Ptr<float> at) { return ProjectGradient{rank, kIn, cpu::address_of(a.data()), kOut, 2, at}; });
    for (int64_t o = 0; o < kOut; ++o)
      for (int64_t i = 0; i < rank; ++i) {  // x A A^T scale^2 = g
        double back = 0;
        for (int64_t j = 0; j < rank; ++j)
          for (int64_t c = 0; c < kIn; ++c) back += 4.0 * x[o * rank + j] * a[j * kIn + c] * a[i * kIn + c];
        CHECK(std::fabs(back - g[o * rank + i]) < 1e-4);
      }
  }
}

TEST("the gradient of orthogonality is that of its norm, by rows or by columns") {
  constexpr int64_t kRows = 9, kRank = 4;
  const auto norm = [](const std::vector<float>& x, bool turned) {
    double squares = 0;
    for (int64_t k = 0; k < kRank; ++k)
      for (int64_t j = 0; j < kRank; ++j) {
        double sum = k == j ? -1 : 0;
        for (int64_t i = 0; i < kRows; ++i)
          sum += turned ? double{x[k * kRows + i]} * x[j * kRows + i] : double{x[i * kRank + k]} * x[i * kRank + j];
        squares += sum * sum;
      }
    return std::sqrt(squares);
  };
  for (const bool turned : {false, true}) {
    const std::vector<float> x = numbers(kRows * kRank, 1);
    const std::vector<float> gradient = made(std::vector<float>(x.size(), 1.0f), [&](Ptr<float> at) {
      static OrthogonalPiece piece;
      piece = {kRows, kRank, turned, 0.5f, cpu::address_of(x.data()), at};
      return Orthogonal{{&piece, 1}};
    });
    for (size_t i = 0; i < x.size(); ++i) {
      std::vector<float> moved = x;
      moved[i] = x[i] + 0.01f;
      const double above = norm(moved, turned);
      moved[i] = x[i] - 0.01f;
      CHECK(std::fabs(gradient[i] - 1 - 0.5 * (above - norm(moved, turned)) / 0.02) < 1e-3);
    }
  }
}

TEST("Adafactor moves a matrix by the means of its rows and columns") {
  constexpr int64_t kRows = 70, kCols = 130;
  const std::vector<float> g = numbers(kRows * kCols, 1), before = numbers(kRows * kCols, 2);
  const std::vector<float> after = made(before, [&](Ptr<float> at) {
    static std::vector<float> row, column;
    row.assign(kRows, 0.0f), column.assign(kCols, 0.0f);
    AdafactorSettings settings;
    settings.clip_threshold = 1e9;
    return Adafactor{settings,
                     0.1,
                     0,
                     1,
                     1,
                     kRows,
                     kCols,
                     cpu::address_of(g.data()),
                     cpu::address_of(row.data()),
                     cpu::address_of(column.data()),
                     {},
                     at};
  });
  std::vector<double> row(kRows), column(kCols);
  double all = 0;
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      const double square = double{g[i * kCols + j]} * g[i * kCols + j];
      row[i] += square / kCols, column[j] += square / kRows, all += square / (kRows * kCols);
    }
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      const double update = g[i * kCols + j] / std::sqrt(row[i] * column[j] / all);
      CHECK(std::fabs(after[i * kCols + j] - (before[i * kCols + j] - 0.1 * update)) < 1e-5);
    }
}
