#include <algorithm>
#include <cmath>

#include "backends/cpu/ops_common.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

double mean_of_squares(Pool& pool, int64_t count, const float* x) {
  return sum_chunks(pool, count,
                    [x](int64_t begin, int64_t end) {
                      double sum = 0;
                      for (int64_t i = begin; i < end; ++i) sum += double{x[i]} * x[i];
                      return sum;
                    }) /
         static_cast<double>(count);
}

/// Moves the means of rows and columns on to squares of this step.
void follow_squares(Pool& pool, const Adafactor& k, double keep) {
  const int64_t rows = k.rows, cols = k.cols;
  const float* const gradient = host(k.gradient);
  float *const row = host(k.row), *const column = host(k.column);
  const auto square = [&](int64_t i, int64_t j) {
    const double g = gradient[i * cols + j] * k.grad_scale;
    return g * g + k.settings.epsilon;
  };
  pool.for_range(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < cols; ++j) sum += square(i, j);
      row[i] = static_cast<float>(keep * row[i] + (1 - keep) * sum / static_cast<double>(cols));
    }
  });
  pool.for_range(cols, kColumnChunk, [&](int64_t begin, int64_t end) {
    for (int64_t from = begin; from < end; from += kColumnChunk) {
      const int64_t to = std::min(end, from + kColumnChunk);
      double sums[kColumnChunk] = {};
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = from; j < to; ++j) sums[j - from] += square(i, j);
      for (int64_t j = from; j < to; ++j)
        column[j] = static_cast<float>(keep * column[j] + (1 - keep) * sums[j - from] / static_cast<double>(rows));
    }
  });
}

/// The step along g / sqrt(second moment), once its size is known. `each(begin, end, body)` calls body(i, that of
/// element i).
template <class Each>
void apply(Pool& pool, const Adafactor& k, const Each& each) {
  const int64_t count = k.rows * k.cols;
  float* const p = host(k.p);
  const double scale =
      k.settings.scale_parameter ? std::max(k.settings.least_scale, std::sqrt(mean_of_squares(pool, count, p))) : 1;
  const double rate = k.learning_rate * scale;
  const double squares = sum_chunks(pool, count, [&](int64_t begin, int64_t end) {
    double sum = 0;
    each(begin, end, [&](int64_t, double update) { sum += update * update; });
    return sum;
  });
  const double size = std::sqrt(squares / static_cast<double>(count));
  const double step = rate / std::max(1.0, size / k.settings.clip_threshold), decay = 1 - k.weight_decay * rate;
  pool.for_range(count, kFlatGrain, [&](int64_t begin, int64_t end) {
    each(begin, end, [&](int64_t i, double update) { p[i] = static_cast<float>(p[i] * decay - step * update); });
  });
}

void inverse_roots(const float* values, int64_t count, double scale, double* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = 1 / std::sqrt(values[i] * scale);
}

}  // namespace

void reference(const Cpu& cpu, const Adafactor& k) {
  const double keep = 1 - math::pow(static_cast<double>(k.step), k.settings.decay_rate);
  const float* const gradient = host(k.gradient);
  if (k.v) {
    float* const v = host(k.v);
    for (int64_t i = 0; i < k.rows * k.cols; ++i) {
      const double g = gradient[i] * k.grad_scale;
      v[i] = static_cast<float>(keep * v[i] + (1 - keep) * (g * g + k.settings.epsilon));
    }
    return apply(cpu.pool, k, [&](int64_t begin, int64_t end, auto&& body) {
      for (int64_t i = begin; i < end; ++i) body(i, gradient[i] * k.grad_scale / std::sqrt(double{v[i]}));
    });
  }
  follow_squares(cpu.pool, k, keep);
  const float* const row = host(k.row);
  double sum = 0;
  for (int64_t i = 0; i < k.rows; ++i) sum += row[i];
  auto* const by_row = reinterpret_cast<double*>(cpu.room);
  double* const by_column = by_row + k.rows;
  inverse_roots(row, k.rows, static_cast<double>(k.rows) / sum, by_row);
  inverse_roots(host(k.column), k.cols, 1, by_column);
  apply(cpu.pool, k, [&](int64_t begin, int64_t end, auto&& body) {
    for (int64_t i = begin; i < end;) {
      const double factor = k.grad_scale * by_row[i / k.cols];
      for (int64_t j = i % k.cols; j < k.cols && i < end; ++i, ++j) body(i, gradient[i] * factor * by_column[j]);
    }
  });
}
int64_t workspace(const Adafactor& k, int) { return k.v ? 0 : (k.rows + k.cols) * 8; }

}  // namespace lowrank::cpu
