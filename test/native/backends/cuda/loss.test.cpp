// The loss on CUDA against float64.
#include <sys/mman.h>

#include <algorithm>

#include "backends/cuda/launch/loss.h"
#include "backends/cuda/tensor.h"

namespace lowrank::cuda {
namespace {

struct Expected {
  double loss;
  std::vector<double> grad;
};

Expected by_definition(const std::vector<double>& logits, int32_t label, double weight) {
  Expected e{0, std::vector<double>(logits.size())};
  if (label < 0 || label >= static_cast<int32_t>(logits.size())) return e;
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double z : logits) sum += std::exp(z - top);
  e.loss = top + std::log(sum) - logits[label];
  for (size_t i = 0; i < logits.size(); ++i) e.grad[i] = std::exp(logits[i] - top) / sum * weight;
  e.grad[label] = std::expm1(logits[label] - top - std::log(sum)) * weight;
  return e;
}

enum class Place { none, apart, over_logits };

void check(Runner& run, DType type, int64_t rows, int64_t vocab, Place place, double scale) {
  test::Random random(5);
  Tensor logits(run, DType::f32, rows, vocab, random, scale, 1), loss(run, DType::f32, 1, rows);
  Tensor apart(run, type, rows, vocab, 3);
  std::vector<int32_t> labels;
  for (int64_t row = 0; row < rows; ++row) labels.push_back(static_cast<int32_t>(random.bits() % vocab));
  if (rows > 2) labels[1] = -1;
  if (rows > 3) labels[2] = static_cast<int32_t>(vocab);
  if (rows > 4) labels[3] = static_cast<int32_t>(vocab) - 1;
  std::vector<Expected> expected;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> z;
    for (int64_t col = 0; col < vocab; ++col) z.push_back(logits(row, col));
    expected.push_back(by_definition(z, labels[row], 0.25));
  }
  Matrix grad;
  grad.dtype = type;
  if (place == Place::apart) grad = apart.matrix();
  if (place == Place::over_logits) grad = {logits.matrix().data, type, logits.matrix().ld * 4 / size_of(type)};
  lowrank::cuda::run(
      run, CrossEntropy{rows, vocab, logits.matrix(), address_of(run.buffer(labels)), 0.25f, loss.floats(), grad}, {});
  for (int64_t row = 0; row < rows; ++row) {
    CHECK_LE(std::fabs(loss(0, row) - expected[row].loss), 1e-5);
    if (place == Place::none) continue;
    double most = 0;
    for (const double g : expected[row].grad) most = std::max(most, std::fabs(g));
    const std::byte* const at = reinterpret_cast<std::byte*>(grad.data.address()) + row * grad.ld * size_of(type);
    for (int64_t col = 0; col < vocab; ++col) {
      const double g = type == DType::f32 ? reinterpret_cast<const float*>(at)[col]
                                          : f32_from_bf16(reinterpret_cast<const uint16_t*>(at)[col]);
      CHECK_LE(std::fabs(g - expected[row].grad[col]), (type == DType::f32 ? 4e-6 : 0x1p-9) * most);
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

}  // namespace
}  // namespace lowrank::cuda
