// Row norms of an adapted weight: the factored form against the rows themselves, in every storage format.
#include "kernels/row_norms.h"

#include <cmath>
#include <vector>

#include "adapters/adapter.h"
#include "backends/cpu/table.h"
#include "check.h"
#include "core/dtype.h"
#include "ops_support.h"
#include "quant/row_norm.h"
#include "weights/weights.h"

namespace {

using namespace lowrank;

constexpr int64_t kOut = 37, kIn = 320, kRank = 5;

std::vector<float> normal(int64_t count, float std, const char* name) {
  std::vector<float> values(count);
  fill_normal(values.data(), count, std, 11, name);
  return values;
}

Weight dense() {
  Weight w(StorageFormat::f32, kOut, kIn);
  fill_normal(static_cast<float*>(w.data()), kOut * kIn, 0.05f, 11, "w");
  return w;
}

Weight coded() {
  Weight w(StorageFormat::nf4, kOut, kIn);
  for (int64_t i = 0; i < kOut * kIn / 2; ++i)
    static_cast<uint8_t*>(w.data())[i] = static_cast<uint8_t>(i * 37 + i / 7);
  for (int64_t i = 0; i < kOut * kIn / 64; ++i) w.absmax()[i] = 0.01f * static_cast<float>(i % 9 + 1);
  return w;
}

/// The norms as a run has them, with the products in plain loops.
std::vector<float> factored(const Weight& w, const std::vector<float>& a, int64_t a_ld, const std::vector<float>& b) {
  Pool pool(2);
  std::vector<double> squares(kOut), gram(kRank * kRank);
  std::vector<float> products(kRank * kOut), row(kIn), norms(kOut);
  test::Views store;
  const Factor factor = store.add(w.view());
  const cpu::Cpu cpu{pool, nullptr, &store};
  cpu::reference(cpu, RowSquares{factor, cpu::address_of(squares.data())});
  cpu::reference(cpu, Gram{kRank, kIn, cpu::address_of(a.data()), a_ld, cpu::address_of(gram.data())});
  for (int64_t i = 0; i < kOut; ++i) {
    decode_row(w.view(), i, 0, kIn, row.data());
    for (int64_t j = 0; j < kRank; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < kIn; ++k) sum += double{row[k]} * a[j * a_ld + k];
      products[j * kOut + i] = static_cast<float>(sum);
    }
  }
  cpu::reference(cpu, AdaptedRowNorms{factor, cpu::address_of(a.data()), a_ld, cpu::address_of(b.data()), kRank,
                                      cpu::address_of(squares.data()), cpu::address_of(products.data()),
                                      cpu::address_of(gram.data()), cpu::address_of(norms.data())});
  return norms;
}

double dense_norm(const Weight& w, int64_t row, const std::vector<float>& a, int64_t a_ld, const float* b) {
  std::vector<float> values(kIn);
  decode_row(w.view(), row, 0, kIn, values.data());
  double square = 0;
  for (int64_t k = 0; k < kIn; ++k) {
    double value = values[k];
    for (int64_t j = 0; j < kRank; ++j) value += double{b[j]} * a[j * a_ld + k];
    square += value * value;
  }
  return std::sqrt(square);
}

}  // namespace

TEST("the factored norm of a row is the norm of the row, whatever the format of the weight") {
  const int64_t a_ld = kIn + 3;  // a shared A is wider than the linear
  const std::vector<float> a = normal(kRank * a_ld, 0.06f, "a"), b = normal(kOut * kRank, 0.3f, "b");
  for (const Weight& w : {dense(), coded()}) {
    const std::vector<float> norms = factored(w, a, a_ld, b);
    for (int64_t i = 0; i < kOut; ++i) {
      const double expected = dense_norm(w, i, a, a_ld, b.data() + i * kRank);
      const double direct = std::sqrt(adapted_row_square(w.view(), i, a.data(), a_ld, b.data() + i * kRank, kRank));
      CHECK_LE(std::fabs(norms[i] / expected - 1), 1e-6);
      CHECK_LE(std::fabs(direct / expected - 1), 1e-12);
    }
  }
}

TEST("a row that the adapter all but takes away keeps the digits of its norm") {
  const std::vector<float> a = normal(kRank * kIn, 0.06f, "a");
  for (const double left : {0.5, 0.09, 0.02, 1e-3, 1e-6}) {
    // Row i is a combination of A's rows, and B takes away all but a share of it.
    Weight w(StorageFormat::f32, kOut, kIn);
    const std::vector<float> mix = normal(kOut * kRank, 1, "mix");
    std::vector<float> b(kOut * kRank);
    for (int64_t i = 0; i < kOut; ++i) {
      for (int64_t k = 0; k < kIn; ++k) {
        double value = 0;
        for (int64_t j = 0; j < kRank; ++j) value += double{mix[i * kRank + j]} * a[j * kIn + k];
        static_cast<float*>(w.data())[i * kIn + k] = static_cast<float>(value);
      }
      for (int64_t j = 0; j < kRank; ++j) b[i * kRank + j] = static_cast<float>((left - 1) * mix[i * kRank + j]);
    }
    const std::vector<float> norms = factored(w, a, kIn, b);
    for (int64_t i = 0; i < kOut; ++i)
      CHECK_LE(std::fabs(norms[i] / dense_norm(w, i, a, kIn, b.data() + i * kRank) - 1), 1e-5);
  }
}

TEST("a row of zeros has a norm that divides") {
  Weight w(StorageFormat::f32, kOut, kIn);
  const std::vector<float> a = normal(kRank * kIn, 0.06f, "a"), b(kOut * kRank, 0.0f);
  for (const float norm : factored(w, a, kIn, b)) {
    CHECK(norm > 0);
    CHECK(std::isfinite(1 / norm));
  }
}
