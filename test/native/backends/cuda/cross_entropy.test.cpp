// The loss on CUDA against float64.
#include <sys/mman.h>

#include <algorithm>

#include "backends/cuda/runs.h"
#include "backends/cuda/tensor.h"

namespace lowrank::cuda {
namespace {

struct Expected {
  double loss, lse;
  std::vector<double> grad;
};

/// Inputs of a loss beside labels.
struct Options {
  double inverse_temperature = 1, smoothing = 0;
  bool weights = false;  // of each row
  enum class Lse { none, written, known } lse = Lse::none;
};

Expected by_definition(const std::vector<double>& logits, int32_t label, double weight, const Options& of = {}) {
  Expected e{0, 0, std::vector<double>(logits.size())};
  if (label < 0 || label >= static_cast<int32_t>(logits.size())) return e;
  std::vector<double> z;
  for (const double logit : logits) z.push_back(logit * of.inverse_temperature);
  const double top = *std::max_element(z.begin(), z.end()), each = of.smoothing / static_cast<double>(z.size());
  double sum = 0, mean = 0;
  for (const double value : z) {
    sum += std::exp(value - top);
    mean += value / static_cast<double>(z.size());
  }
  e.lse = top + std::log(sum);
  e.loss = e.lse - (1 - of.smoothing) * z[label] - of.smoothing * mean;
  for (size_t i = 0; i < z.size(); ++i) e.grad[i] = (std::exp(z[i] - top) / sum - each) * weight;
  e.grad[label] = (std::expm1(z[label] - e.lse) + of.smoothing - each) * weight;
  return e;
}

enum class Place { none, apart, over_logits };

void check(Runner& run, DType type, int64_t rows, int64_t vocab, Place place, double scale, const Options& of = {}) {
  test::Random random(5);
  Tensor logits(run, DType::f32, rows, vocab, random, scale, 1), loss(run, DType::f32, 1, rows);
  Tensor apart(run, type, rows, vocab, 3), lse(run, DType::f32, 1, rows);
  Tensor weights(run, DType::f32, 1, rows, random);
  std::vector<int32_t> labels;
  for (int64_t row = 0; row < rows; ++row) labels.push_back(static_cast<int32_t>(random.bits() % vocab));
  if (rows > 2) labels[1] = -1;
  if (rows > 3) labels[2] = static_cast<int32_t>(vocab);
  if (rows > 4) labels[3] = static_cast<int32_t>(vocab) - 1;
  const bool known = of.lse == Options::Lse::known;
  const auto weight_of = [&](int64_t row) { return of.weights ? weights(0, row) : 0.25; };
  std::vector<Expected> expected;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> z;
    for (int64_t col = 0; col < vocab; ++col) z.push_back(logits(row, col));
    expected.push_back(by_definition(z, labels[row], weight_of(row), of));
    if (known) lse.set(0, row, expected[row].lse);
  }
  Matrix grad;
  grad.dtype = type;
  if (place == Place::apart) grad = apart.matrix();
  if (place == Place::over_logits) grad = {logits.matrix().data, type, logits.matrix().ld * 4 / size_of(type)};
  lowrank::cuda::run(run,
                     CrossEntropy{rows, vocab, logits.matrix(), address_of(run.buffer(labels)), 0.25f, loss.floats(),
                                  grad, of.weights ? weights.floats() : Ptr<float>(),
                                  of.lse == Options::Lse::none ? Ptr<float>() : lse.floats(), known,
                                  static_cast<float>(of.inverse_temperature), static_cast<float>(of.smoothing)},
                     {});
  // Probabilities near 1 are rounded to fp32, and so is a log-sum-exp that is known.
  const double rounded = known ? 4e-6 : 2e-7;
  for (int64_t row = 0; row < rows; ++row) {
    if (known)
      CHECK(std::isnan(loss(0, row)));
    else
      CHECK_LE(std::fabs(loss(0, row) - expected[row].loss), 1e-5);
    if (of.lse == Options::Lse::written) CHECK_LE(std::fabs(lse(0, row) - expected[row].lse), 1e-5);
    if (place == Place::none) continue;
    double most = 0;
    const double spread = rounded * std::fabs(weight_of(row));
    for (const double g : expected[row].grad) most = std::max(most, std::fabs(g));
    const std::byte* const at = reinterpret_cast<std::byte*>(grad.data.address()) + row * grad.ld * size_of(type);
    for (int64_t col = 0; col < vocab; ++col) {
      const double g = type == DType::f32 ? reinterpret_cast<const float*>(at)[col]
                                          : f32_from_bf16(reinterpret_cast<const uint16_t*>(at)[col]);
      CHECK_LE(std::fabs(g - expected[row].grad[col]), (type == DType::f32 ? 4e-6 : 0x1p-8) * most + spread);
    }
  }
  CHECK(logits.spare_untouched());
  CHECK(apart.spare_untouched());
}

TEST("CUDA's cross_entropy and its gradient equal float64, wherever the gradient lies") {
  for_each_execution([](Runner& run) {
    for (const auto& [rows, vocab] : {std::pair(1, 1), {5, 17}, {5, 2048}, {2, 2049}, {2, 4099}, {1, 9001}})
      for (const DType type : {DType::f32, DType::bf16})
        for (const Place place : {Place::none, Place::apart, Place::over_logits})
          check(run, type, rows, vocab, place, 3);
    check(run, DType::bf16, 1, 32003, Place::over_logits, 3);
    check(run, DType::f32, 2, 300, Place::over_logits, 40);
  });
}

TEST("CUDA's cross_entropy with weights of rows, known log-sum-exps, temperature, and smoothing equals float64") {
  using enum Options::Lse;
  const Options kinds[] = {{.weights = true},
                           {.weights = true, .lse = written},
                           {.weights = true, .lse = known},
                           {.inverse_temperature = 0.7, .weights = true, .lse = written},
                           {.inverse_temperature = 1.6, .weights = true, .lse = known},
                           {.smoothing = 0.1},
                           {.smoothing = 1},
                           {.inverse_temperature = 2, .smoothing = 0.3, .weights = true, .lse = known}};
  for_each_execution([&](Runner& run) {
    for (const Options& of : kinds)
      for (const auto& [rows, vocab] : {std::pair(1, 1), {5, 2}, {5, 17}, {2, 2049}, {1, 4099}})
        for (const DType type : {DType::f32, DType::bf16})
          for (const Place place : {Place::none, Place::over_logits}) check(run, type, rows, vocab, place, 3, of);
    check(run, DType::f32, 2, 9001, Place::apart, 3, {.smoothing = 0.1});
  });
}

TEST("CUDA's cross_entropy reaches logits beyond 2^33 elements") {
  for_each_execution([](Runner& run) {
    constexpr int64_t kRows = 3, kVocab = 100, kLd = int64_t{1} << 32;
    const auto bytes = static_cast<size_t>(((kRows - 1) * kLd + 4096) * 4);
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    run.lend(memory, static_cast<int64_t>(bytes));
    float* const logits = static_cast<float*>(memory);
    test::Random random(3);
    std::vector<std::vector<double>> rows(kRows);
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t col = 0; col < kVocab; ++col)
        rows[row].push_back(logits[row * kLd + col] = static_cast<float>(random.normal()));
    Tensor loss(run, DType::f32, 1, kRows);
    const Matrix grad{address_of(logits).as<std::byte>(), DType::bf16, 2 * kLd};
    lowrank::cuda::run(run,
                       CrossEntropy{kRows, kVocab, f32_matrix(address_of(logits), kLd),
                                    address_of(run.buffer(std::vector<int32_t>{3, 99, 0})), 1, loss.floats(), grad},
                       {});
    for (int64_t row = 0; row < kRows; ++row) {
      const Expected e = by_definition(rows[row], std::vector<int32_t>{3, 99, 0}[row], 1);
      CHECK_LE(std::fabs(loss(0, row) - e.loss), 1e-5);
      for (int64_t col = 0; col < kVocab; ++col)
        CHECK_LE(std::fabs(f32_from_bf16(reinterpret_cast<const uint16_t*>(logits + row * kLd)[col]) - e.grad[col]),
                 0x1p-9);
    }
    munmap(memory, bytes);
  });
}

TEST("CUDA's label_hits counts a label whose logit is the largest, of equal ones the first") {
  for_each_execution([](Runner& run) {
    for (const auto& [rows, vocab] : {std::pair(1, 1), {5, 17}, {5, 2048}, {2, 2049}, {3, 4099}}) {
      test::Random random(5);
      Tensor logits(run, DType::f32, rows, vocab, random, 3, 1), hits(run, DType::f32, 1, rows);
      std::vector<int32_t> labels, best;
      for (int64_t row = 0; row < rows; ++row) {
        logits.set(row, (row * 700) % vocab, 50);
        logits.set(row, vocab - 1 - row, 50);
        int64_t at = 0;
        for (int64_t col = 1; col < vocab; ++col)
          if (logits(row, col) > logits(row, at)) at = col;
        best.push_back(static_cast<int32_t>(at));
      }
      for (const int64_t shift : {0, 1, -1})
        for (const bool last : {false, true}) {
          labels.clear();
          for (int64_t row = 0; row < rows; ++row)
            labels.push_back(last ? static_cast<int32_t>(vocab - 1 - row) : static_cast<int32_t>(best[row] + shift));
          lowrank::cuda::run(
              run, LabelHits{rows, vocab, logits.matrix(), address_of(run.buffer(labels)), hits.floats()}, {});
          for (int64_t row = 0; row < rows; ++row) CHECK_EQ(hits(0, row), labels[row] == best[row] ? 1.0 : 0.0);
        }
    }
  });
}

}  // namespace
}  // namespace lowrank::cuda
