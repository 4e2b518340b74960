#include "kernels/projection.h"

#include <cmath>

#include "optimizer_cases.h"

namespace lowrank::test {

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

}  // namespace lowrank::test
