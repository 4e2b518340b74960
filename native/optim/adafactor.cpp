#include "optim/adafactor.h"

#include <algorithm>
#include <cmath>

#include "backends/cpu/ops_common.h"

namespace lowrank {
namespace {

using cpu::sum_chunks;

double mean_of_squares(Pool& pool, int64_t count, const float* x) {
  return sum_chunks(pool, count, [x](int64_t begin, int64_t end) {
           double sum = 0;
           for (int64_t i = begin; i < end; ++i) sum += double{x[i]} * x[i];
           return sum;
         }) / static_cast<double>(count);
}

/// Moves the means of rows and columns on to squares of this step.
void follow_squares(Pool& pool, const Adafactor& options, double keep, int64_t rows, int64_t cols, const float* gradient,
                    float* row, float* column) {
  const auto square = [&](int64_t i, int64_t j) {
    const double g = gradient[i * cols + j] * options.grad_scale;
    return g * g + options.epsilon;
  };
  pool.for_range(rows, cpu::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < cols; ++j) sum += square(i, j);
      row[i] = static_cast<float>(keep * row[i] + (1 - keep) * sum / static_cast<double>(cols));
    }
  });
  pool.for_range(cols, cpu::kColumnChunk, [&](int64_t begin, int64_t end) {
    for (int64_t from = begin; from < end; from += cpu::kColumnChunk) {
      const int64_t to = std::min(end, from + cpu::kColumnChunk);
      double sums[cpu::kColumnChunk] = {};
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = from; j < to; ++j) sums[j - from] += square(i, j);
      for (int64_t j = from; j < to; ++j)
        column[j] = static_cast<float>(keep * column[j] + (1 - keep) * sums[j - from] / static_cast<double>(rows));
    }
  });
}

/// The step along g / sqrt(second moment), once its size is known. `each(begin, end, body)` calls body(i, that of element i).
template <class Each>
void apply(Pool& pool, const Adafactor& options, int64_t count, float* p, const Each& each) {
  const double scale =
      options.scale_parameter ? std::max(options.least_scale, std::sqrt(mean_of_squares(pool, count, p))) : 1;
  const double rate = options.learning_rate * scale;
  const double squares = sum_chunks(pool, count, [&](int64_t begin, int64_t end) {
    double sum = 0;
    each(begin, end, [&](int64_t, double update) { sum += update * update; });
    return sum;
  });
  const double size = std::sqrt(squares / static_cast<double>(count));
  const double step = rate / std::max(1.0, size / options.clip_threshold), decay = 1 - options.weight_decay * rate;
  pool.for_range(count, cpu::kFlatGrain, [&](int64_t begin, int64_t end) {
    each(begin, end, [&](int64_t i, double update) { p[i] = static_cast<float>(p[i] * decay - step * update); });
  });
}

std::vector<double> inverse_roots(const float* values, int64_t count, double scale) {
  std::vector<double> roots(count);
  for (int64_t i = 0; i < count; ++i) roots[i] = 1 / std::sqrt(values[i] * scale);
  return roots;
}

}  // namespace

void adafactor(Pool& pool, const Adafactor& options, int64_t rows, int64_t cols, const float* gradient,
               const std::vector<StateView>& state, float* p) {
  const double keep = 1 - std::pow(static_cast<double>(options.step), options.decay_rate);
  if (state.size() == 1) {
    float* const v = state[0].floats;
    for (int64_t i = 0; i < rows * cols; ++i) {
      const double g = gradient[i] * options.grad_scale;
      v[i] = static_cast<float>(keep * v[i] + (1 - keep) * (g * g + options.epsilon));
    }
    return apply(pool, options, rows * cols, p, [&](int64_t begin, int64_t end, auto&& body) {
      for (int64_t i = begin; i < end; ++i) body(i, gradient[i] * options.grad_scale / std::sqrt(double{v[i]}));
    });
  }
  float *const row = state[0].floats, *const column = state[1].floats;
  follow_squares(pool, options, keep, rows, cols, gradient, row, column);
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) sum += row[i];
  const std::vector<double> by_row = inverse_roots(row, rows, static_cast<double>(rows) / sum);
  const std::vector<double> by_column = inverse_roots(column, cols, 1);
  apply(pool, options, rows * cols, p, [&](int64_t begin, int64_t end, auto&& body) {
    for (int64_t i = begin; i < end;) {
      const double factor = options.grad_scale * by_row[i / cols];
      for (int64_t j = i % cols; j < cols && i < end; ++i, ++j) body(i, gradient[i] * factor * by_column[j]);
    }
  });
}

}  // namespace lowrank
