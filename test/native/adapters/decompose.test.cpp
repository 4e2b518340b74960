// Singular values and vectors against matrices that were made from known ones; the QR factors by what defines them.
#include "adapters/decompose.h"

#include <cmath>
#include <vector>

#include "adapters/adapter.h"
#include "check.h"

namespace {

using namespace lowrank;

std::vector<double> normal(int64_t count, const char* name) {
  std::vector<float> drawn(count);
  fill_normal(drawn.data(), count, 1, 5, name);
  return {drawn.begin(), drawn.end()};
}

/// `count` orthonormal rows of a length.
std::vector<double> orthonormal(int64_t count, int64_t length, const char* name) {
  std::vector<double> rows = normal(count * length, name);
  for (int64_t i = 0; i < count; ++i)
    for (int pass = 0; pass < 2; ++pass) {
      double* const x = rows.data() + i * length;
      for (int64_t j = 0; j <= i; ++j) {
        const double* const y = rows.data() + j * length;
        double share = 0;
        for (int64_t k = 0; k < length; ++k) share += x[k] * y[k];
        for (int64_t k = 0; k < length; ++k) x[k] = j == i ? x[k] / std::sqrt(share) : x[k] - share * y[k];
      }
    }
  return rows;
}

struct Known {
  std::vector<float> w;      // [rows, cols]
  std::vector<double> best;  // the same with the first `rank` values alone
  double square = 0, kept = 0;
};

/// A matrix with the singular values value(0), value(1), … in descending order.
template <class Value>
Known known(int64_t rows, int64_t cols, int64_t rank, Value value) {
  const int64_t count = std::min(rows, cols);
  const std::vector<double> u = orthonormal(count, rows, "u"), v = orthonormal(count, cols, "v");
  Known made{std::vector<float>(rows * cols), std::vector<double>(rows * cols)};
  std::vector<double> whole(rows * cols);
  for (int64_t s = 0; s < count; ++s) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) {
        const double part = value(s) * u[s * rows + i] * v[s * cols + j];
        whole[i * cols + j] += part;
        if (s < rank) made.best[i * cols + j] += part;
      }
    made.square += value(s) * value(s);
    if (s < rank) made.kept += value(s) * value(s);
  }
  made.w.assign(whole.begin(), whole.end());
  return made;
}

std::vector<double> product(const Decomposition& factors, int64_t rows, int64_t cols, int64_t rank) {
  std::vector<double> out(rows * cols);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t j = 0; j < cols; ++j) out[i * cols + j] += double{factors.b[i * rank + k]} * factors.a[k * cols + j];
  return out;
}

Decomposition largest(const Known& made, int64_t rows, int64_t cols, int64_t rank, int64_t blocks = 0,
                      int threads = 2) {
  Pool pool(threads);
  return largest_singular(pool, made.w.data(), rows, cols, {rank, blocks, 7, "w"});
}

TEST("the largest singular values of matrices of every form are found") {
  const auto slowly = [](int64_t s) { return 10 / (1 + 0.3 * static_cast<double>(s)); };
  const std::vector<std::vector<int64_t>> shapes{{5, 3, 2},   {3, 5, 3},    {1, 9, 1},
                                                 {40, 64, 6}, {130, 70, 4}, {90, 300, 16}};
  for (const std::vector<int64_t>& shape : shapes) {
    const int64_t rows = shape[0], cols = shape[1], rank = shape[2];
    const Known made = known(rows, cols, rank, slowly);
    const Decomposition factors = largest(made, rows, cols, rank);
    CHECK_CLOSE(factors.square, made.square, 1e-6);
    CHECK_CLOSE(factors.kept, made.kept, 1e-6);
    CHECK_ALL_CLOSE(product(factors, rows, cols, rank), made.best, 3e-6);
  }
}

TEST("they are found after restarts as well, where they lie close together") {
  const int64_t rows = 260, cols = 300, rank = 8;
  const auto close = [](int64_t s) {
    return s < 8 ? 1.02 - 0.0005 * static_cast<double>(s) : std::exp(-0.001 * static_cast<double>(s));
  };
  const Known made = known(rows, cols, rank, close);
  const Decomposition factors = largest(made, rows, cols, rank);
  CHECK_CLOSE(factors.kept, made.kept, 1e-8);
  CHECK_ALL_CLOSE(product(factors, rows, cols, rank), made.best, 1e-4);
}

TEST("each side of the product has the root of every singular value") {
  const int64_t rows = 30, cols = 20, rank = 3;
  const Known made = known(rows, cols, rank, [](int64_t s) { return std::pow(2.0, -static_cast<double>(s)); });
  const Decomposition factors = largest(made, rows, cols, rank);
  for (int64_t i = 0; i < rank; ++i)
    for (int64_t k = 0; k < rank; ++k) {
      double a = 0, b = 0;
      for (int64_t j = 0; j < cols; ++j) a += double{factors.a[i * cols + j]} * factors.a[k * cols + j];
      for (int64_t j = 0; j < rows; ++j) b += double{factors.b[j * rank + i]} * factors.b[j * rank + k];
      const double expected = i == k ? std::pow(2.0, -static_cast<double>(i)) : 0;
      CHECK_LE(std::fabs(a - expected), 1e-6);
      CHECK_LE(std::fabs(b - expected), 1e-6);
    }
}

TEST("a matrix of lower rank than is asked for is found whole, and one of zeros gives zeros") {
  const int64_t rows = 50, cols = 80, rank = 12;
  const Known made = known(rows, cols, rank, [](int64_t s) { return s < 5 ? 3.0 - static_cast<double>(s) / 2 : 0; });
  const Decomposition factors = largest(made, rows, cols, rank);
  CHECK_ALL_CLOSE(product(factors, rows, cols, rank), made.best, 1e-6);
  const Decomposition none = largest(known(rows, cols, rank, [](int64_t) { return 0.0; }), rows, cols, rank);
  CHECK_EQ(none.square, 0.0);
  CHECK_EQ(none.kept, 0.0);
  for (const std::vector<float>& values : {none.a, none.b})
    for (const float value : values) CHECK_EQ(value, 0.0f);
}

TEST("more blocks come nearer, and the number of threads changes no bit") {
  const int64_t rows = 200, cols = 150, rank = 4;
  const Known made = known(rows, cols, rank, [](int64_t s) { return 1 / std::sqrt(1.0 + static_cast<double>(s)); });
  double kept = 0;
  for (const int64_t blocks : {1, 2, 4, 16}) {
    const Decomposition factors = largest(made, rows, cols, rank, blocks);
    CHECK(factors.kept > kept);
    kept = factors.kept;
    const Decomposition alone = largest(made, rows, cols, rank, blocks, 1);
    CHECK(alone.a == factors.a && alone.b == factors.b);
  }
  CHECK_CLOSE(kept, made.kept, 1e-6);
}

TEST("the first of a QR factorization: orthonormal columns that span those of the matrix") {
  const int64_t rows = 40, cols = 60, rank = 6;
  const Known made = known(rows, cols, rank, [](int64_t s) { return 1 / (1.0 + static_cast<double>(s)); });
  Pool pool(2);
  const Decomposition factors = first_of_qr(pool, made.w.data(), rows, cols, rank);
  for (int64_t i = 0; i < rank; ++i)
    for (int64_t k = 0; k < rank; ++k) {
      double sum = 0;
      for (int64_t j = 0; j < rows; ++j) sum += double{factors.b[j * rank + i]} * factors.b[j * rank + k];
      CHECK_LE(std::fabs(sum - (i == k)), 1e-6);
    }
  const std::vector<double> whole = product(factors, rows, cols, rank);
  double outside = 0, square = 0, kept = 0;  // the first columns are there whole, and R has nothing below its diagonal
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) {
      square += double{made.w[i * cols + j]} * made.w[i * cols + j];
      kept += whole[i * cols + j] * whole[i * cols + j];
      if (j < rank) outside = std::max(outside, std::fabs(whole[i * cols + j] - made.w[i * cols + j]));
    }
  CHECK_LE(outside, 1e-6);
  CHECK_CLOSE(factors.square, square, 1e-12);
  CHECK_CLOSE(factors.kept, kept, 1e-6);
  for (int64_t i = 0; i < rank; ++i)
    for (int64_t j = 0; j < i; ++j) CHECK_LE(std::fabs(factors.a[i * cols + j]), 1e-6);
}

TEST("a rank that a side is smaller than is refused") {
  Pool pool(1);
  const std::vector<float> w(12, 1.0f);
  CHECK_THROWS(largest_singular(pool, w.data(), 3, 4, {4, 0, 0, "w"}),
               "a matrix of [3, 4] cannot be factored at rank 4; expected 1 to 3");
  CHECK_THROWS(first_of_qr(pool, w.data(), 3, 4, 0), "rank 0");
}

}  // namespace
