// The loss of rows of logits and its gradient, every level and operand type, against their definitions in double.
#include <algorithm>

#include "kernel_cases.h"

namespace lowrank::test {

TEST("cross_entropy gives the loss and its gradient, over the logits themselves too") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    const float weight = 0.37f;
    Tensor logits(DType::f32, kRows, cols, random, 4.0), grad(dtype, kRows, cols);
    logits.set(1, cols / 2, 300.0);
    std::vector<int32_t> labels;
    for (int64_t row = 0; row < kRows; ++row) labels.push_back(static_cast<int32_t>((row * 5) % cols));
    std::vector<double> expected;
    std::vector<float> loss(kRows), loss_alone(kRows);
    run(level, pool, CrossEntropy{kRows, cols, logits.at(), ptr(labels), weight, ptr(loss), grad.at()});
    run(level, pool, CrossEntropy{kRows, cols, logits.at(), ptr(labels), weight, ptr(loss_alone), {}});
    for (int64_t row = 0; row < kRows; ++row) {
      double top = -INFINITY, sum = 0;
      for (int64_t col = 0; col < cols; ++col) top = std::max(top, logits.get(row, col));
      for (int64_t col = 0; col < cols; ++col) sum += std::exp(logits.get(row, col) - top);
      const double total = top + std::log(sum);
      CHECK_LE(std::fabs(loss[row] - (total - logits.get(row, labels[row]))), 1e-6 * std::max(1.0, total));
      for (int64_t col = 0; col < cols; ++col) {
        expected.push_back((std::exp(logits.get(row, col) - total) - (col == labels[row])) * weight);
      }
    }
    CHECK(loss == loss_alone);
    if (cols == 1) {
      for (const double value : grad.values()) CHECK_LE(std::fabs(value), 1e-6);
    } else {
      CHECK_ALL_CLOSE(grad.values(), expected, tolerance(dtype));
    }
    CHECK(grad.spare_untouched());
    // In place a bf16 row starts where its logits start and fills the front half.
    Matrix front = logits.at();
    front.dtype = dtype;
    if (dtype == DType::bf16) front.ld *= 2;
    run(level, pool, CrossEntropy{kRows, cols, logits.at(), ptr(labels), weight, ptr(loss_alone), front});
    CHECK(loss == loss_alone);
    if (cols == 1) return;
    std::vector<double> in_place;
    for (int64_t row = 0; row < kRows; ++row) {
      const auto* bytes = logits.data<std::byte>() + row * front.ld * size_of(dtype);
      for (int64_t col = 0; col < cols; ++col) {
        if (dtype == DType::f32) in_place.push_back(reinterpret_cast<const float*>(bytes)[col]);
        if (dtype == DType::bf16) in_place.push_back(f32_from_bf16(reinterpret_cast<const uint16_t*>(bytes)[col]));
      }
    }
    CHECK_ALL_CLOSE(in_place, expected, tolerance(dtype));
  });
}

TEST("cross_entropy takes a weight of each row, and in a second pass the log-sum-exps that the first one left") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor logits(DType::f32, kRows, cols, random, 4.0), again = logits, grad(dtype, kRows, cols),
                                                         known(dtype, kRows, cols);
    std::vector<int32_t> labels;
    std::vector<float> weights, loss(kRows), lse(kRows);
    for (int64_t row = 0; row < kRows; ++row) {
      labels.push_back(static_cast<int32_t>((row * 5) % cols));
      weights.push_back(row == 1 ? 0.0f : 0.5f - static_cast<float>(row));
    }
    // Scaled by a temperature, in place.
    CrossEntropy k{kRows, cols, logits.at(), ptr(labels), 9, ptr(loss), {}, ptr(weights), ptr(lse), false, 0.5f};
    run(level, pool, k);
    std::vector<double> expected;
    for (int64_t row = 0; row < kRows; ++row) {
      double top = -INFINITY, sum = 0;
      for (int64_t col = 0; col < cols; ++col) top = std::max(top, again.get(row, col) / 2);
      for (int64_t col = 0; col < cols; ++col) sum += std::exp(again.get(row, col) / 2 - top);
      const double total = top + std::log(sum);
      CHECK_LE(std::fabs(lse[row] - total), 1e-6 * std::max(1.0, std::fabs(total)));
      CHECK_LE(std::fabs(loss[row] - (total - again.get(row, labels[row]) / 2)),
               2e-6 * std::max(1.0, std::fabs(total)));
      for (int64_t col = 0; col < cols; ++col)
        expected.push_back((std::exp(again.get(row, col) / 2 - total) - (col == labels[row])) * weights[row]);
    }
    Tensor once = again;
    std::vector<float> losses_before = loss, lse_before = lse;
    k.logits = once.at();
    k.grad = grad.at();
    run(level, pool, k);
    CHECK(loss == losses_before);
    k.lse_known = true;
    std::fill(loss.begin(), loss.end(), -7.0f);
    k.logits = again.at();
    k.grad = known.at();
    run(level, pool, k);
    CHECK(lse == lse_before);
    for (const float value : loss) CHECK_EQ(value, -7.0f);
    if (cols == 1) return;
    CHECK_ALL_CLOSE(grad.values(), expected, tolerance(dtype));
    CHECK_ALL_CLOSE(known.values(), expected, tolerance(dtype));
  });
}

TEST("cross_entropy smooths labels, in one pass and in two") {
  for_cases([](cpu::Level level, DType dtype, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor logits(DType::f32, kRows, cols, random, 4.0), grad(dtype, kRows, cols), known(dtype, kRows, cols);
    std::vector<int32_t> labels;
    std::vector<float> loss(kRows), lse(kRows);
    for (int64_t row = 0; row < kRows; ++row) labels.push_back(static_cast<int32_t>((row * 5) % cols));
    const float weight = 0.37f, smoothing = 0.2f;
    CrossEntropy k{kRows, cols, logits.at(), ptr(labels), weight, ptr(loss), grad.at(), {}, ptr(lse)};
    k.smoothing = smoothing;
    run(level, pool, k);
    std::vector<double> expected;
    for (int64_t row = 0; row < kRows; ++row) {
      double top = -INFINITY, sum = 0, mean = 0;
      for (int64_t col = 0; col < cols; ++col) top = std::max(top, logits.get(row, col));
      for (int64_t col = 0; col < cols; ++col) {
        sum += std::exp(logits.get(row, col) - top);
        mean += logits.get(row, col) / static_cast<double>(cols);
      }
      const double total = top + std::log(sum);
      const double of_label = logits.get(row, labels[row]);
      CHECK_LE(std::fabs(loss[row] - (total - (1 - smoothing) * of_label - smoothing * mean)),
               2e-6 * std::max(1.0, std::fabs(total)));
      for (int64_t col = 0; col < cols; ++col)
        expected.push_back((std::exp(logits.get(row, col) - total) - (col == labels[row] ? 1 - smoothing : 0.0) -
                            smoothing / static_cast<double>(cols)) *
                           weight);
    }
    k.lse_known = true;
    k.loss = {};
    k.grad = known.at();
    run(level, pool, k);
    if (cols == 1) return;
    CHECK_ALL_CLOSE(grad.values(), expected, tolerance(dtype));
    CHECK_ALL_CLOSE(known.values(), expected, tolerance(dtype));
  });
}

TEST("cross_entropy over a large vocabulary keeps seven digits") {
  for_levels([](cpu::Level level) {
    Pool pool(2);
    Random random(23);
    const int64_t vocab = 49152;
    Tensor logits(DType::f32, 2, vocab, random, 2.0);
    const std::vector<int32_t> labels = {49151, 7};
    std::vector<float> loss(2);
    run(level, pool, CrossEntropy{2, vocab, logits.at(), ptr(labels), 1, ptr(loss), {}});
    for (int64_t row = 0; row < 2; ++row) {
      double sum = 0;
      for (int64_t col = 0; col < vocab; ++col) sum += std::exp(logits.get(row, col));
      CHECK_CLOSE(loss[row], std::log(sum) - logits.get(row, labels[row]), 2e-7);
    }
  });
}

TEST("a row without a label has no loss and no gradient") {
  for_levels([](cpu::Level level) {
    Pool pool(1);
    Random random(29);
    for (const DType dtype : kOperandTypes) {
      Tensor logits(DType::f32, 2, 40, random), grad(dtype, 2, 40);
      const std::vector<int32_t> labels = {-100, 40};
      std::vector<float> loss = {1, 1};
      run(level, pool, CrossEntropy{2, 40, logits.at(), ptr(labels), 1, ptr(loss), grad.at()});
      CHECK_EQ(loss[0], 0.0f);
      CHECK_EQ(loss[1], 0.0f);
      for (const double value : grad.values()) CHECK_EQ(value, 0.0);
    }
  });
}

TEST("a logit that is no number makes the loss no number") {
  for_levels([](cpu::Level level) {
    Pool pool(1);
    Random random(31);
    for (const int64_t at : {0, 3, 20, 36}) {
      Tensor logits(DType::f32, 1, 37, random);
      logits.set(0, at, NAN);
      const std::vector<int32_t> labels = {5};
      std::vector<float> loss(1);
      run(level, pool, CrossEntropy{1, 37, logits.at(), ptr(labels), 1, ptr(loss), {}});
      CHECK(std::isnan(loss[0]));
    }
  });
}

TEST("label_hits counts a label whose logit is the largest, of equal ones the first") {
  for_cases([](cpu::Level level, DType, int64_t cols, Random& random) {
    Pool pool(2);
    Tensor logits(DType::f32, kRows, cols, random, 4.0);
    std::vector<int32_t> best;
    for (int64_t row = 0; row < kRows; ++row) {
      // A tie, whose first place counts.
      logits.set(row, (row * 7) % cols, 50.0);
      logits.set(row, cols - 1 - row % std::max<int64_t>(cols / 2, 1), 50.0);
      int64_t at = 0;
      for (int64_t col = 1; col < cols; ++col)
        if (logits.get(row, col) > logits.get(row, at)) at = col;
      best.push_back(static_cast<int32_t>(at));
    }
    for (int64_t label = -1; label <= cols; ++label) {
      const std::vector<int32_t> labels(kRows, static_cast<int32_t>(label));
      std::vector<float> hits(kRows, NAN);
      run(level, pool, LabelHits{kRows, cols, logits.at(), ptr(labels), ptr(hits)});
      for (int64_t row = 0; row < kRows; ++row) CHECK_EQ(hits[row], best[row] == label ? 1.0f : 0.0f);
    }
    // What is not a number is no largest logit, and none is larger than it either.
    logits.set(0, best[0], NAN);
    std::vector<float> hits(kRows);
    for (int64_t label = 0; label < cols && cols > 1; ++label) {
      const std::vector<int32_t> labels(kRows, static_cast<int32_t>(label));
      run(level, pool, LabelHits{kRows, cols, logits.at(), ptr(labels), ptr(hits)});
      CHECK_EQ(hits[0], 0.0f);
    }
  });
}

}  // namespace lowrank::test
