// Matrix products as plain loops with double sums: what every other level is tested against. Operands are rounded to
// bf16 first when that precision is asked for, so the faster levels differ only by the order and width of their sums.
#include <algorithm>

#include "backends/cpu/kernels.h"

namespace lowrank::cpu {
namespace {

constexpr int64_t kRows = 16;     // rows of y that share one decoding of the weights
constexpr int64_t kColumns = 64;  // weights decoded at a time

float element(const Operand& x, int64_t row, int64_t column) {
  const int64_t index = row * x.ld + column;
  if (x.dtype == DType::f32) return static_cast<const float*>(x.data)[index];
  return f32_from_bf16(static_cast<const uint16_t*>(x.data)[index]);
}

float rounded(float value, Precision precision) {
  return precision == Precision::bf16 ? f32_from_bf16(bf16_from_f32(value)) : value;
}

void store(const Output& y, int64_t row, int64_t column, double sum) {
  if (y.bias != nullptr) sum += y.bias[column];
  if (y.residual != nullptr) sum += y.residual[row * y.residual_ld + column];
  const int64_t index = row * y.ld + column;
  if (y.dtype == DType::f32) {
    static_cast<float*>(y.data)[index] = static_cast<float>(sum);
  } else {
    static_cast<uint16_t*>(y.data)[index] = bf16_from_f32(static_cast<float>(sum));
  }
}

void gemm_nt(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte*) {
  const int64_t row_tiles = (m + kRows - 1) / kRows;
  pool.for_range(row_tiles * n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / row_tiles;
      const int64_t first = unit % row_tiles * kRows;
      const int64_t rows = std::min(kRows, m - first);
      double sums[kRows] = {};
      for (const Segment& segment : segments) {
        for (int64_t k = 0; k < segment.w.cols; k += kColumns) {
          const int64_t count = std::min(kColumns, segment.w.cols - k);
          float weights[kColumns];
          decode_row(segment.w, column, k, count, weights);
          for (int64_t i = 0; i < count; ++i) {
            const double weight = rounded(weights[i], precision);
            for (int64_t row = 0; row < rows; ++row) {
              sums[row] += weight * rounded(element(segment.x, first + row, k + i), precision);
            }
          }
        }
      }
      for (int64_t row = 0; row < rows; ++row) store(y, first + row, column, sums[row]);
    }
  });
}

void gemm_nn(Pool& pool, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte*) {
  const int64_t row_tiles = (m + kRows - 1) / kRows;
  const int64_t strips = (n + kColumns - 1) / kColumns;
  pool.for_range(row_tiles * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / row_tiles * kColumns;
      const int64_t columns = std::min(kColumns, n - column);
      const int64_t first = unit % row_tiles * kRows;
      const int64_t rows = std::min(kRows, m - first);
      double sums[kRows][kColumns] = {};
      for (const Segment& segment : segments) {
        for (int64_t k = 0; k < segment.w.rows; ++k) {
          float weights[kColumns];
          decode_row(segment.w, k, column, columns, weights);
          for (int64_t row = 0; row < rows; ++row) {
            const double x = rounded(element(segment.x, first + row, k), precision);
            for (int64_t i = 0; i < columns; ++i) sums[row][i] += x * rounded(weights[i], precision);
          }
        }
      }
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t i = 0; i < columns; ++i) store(y, first + row, column + i, sums[row][i]);
      }
    }
  });
}

void reduce_tokens(Pool& pool, Precision, int64_t tokens, const Operand& u, int64_t r, const Operand& x, int64_t n,
                   float scale, float* out, int64_t out_ld, bool transposed, std::byte*) {
  const int64_t strips = (n + kColumns - 1) / kColumns;
  pool.for_range(r * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit / strips;
      const int64_t column = unit % strips * kColumns;
      const int64_t columns = std::min(kColumns, n - column);
      double sums[kColumns] = {};
      for (int64_t t = 0; t < tokens; ++t) {
        const double factor = element(u, t, row);
        for (int64_t i = 0; i < columns; ++i) sums[i] += factor * element(x, t, column + i);
      }
      for (int64_t i = 0; i < columns; ++i) {
        float& target = transposed ? out[(column + i) * out_ld + row] : out[row * out_ld + column + i];
        target += static_cast<float>(scale * sums[i]);
      }
    }
  });
}

/// each(row, column, first, second) with every element of the two products of a pair.
template <class Each>
void for_pair(Pool& pool, const PairFactors& f, Each&& each) {
  pool.for_range(f.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < f.cols; ++i) {
        double first = 0, second = 0;
        for (int64_t k = 0; k < f.rank; ++k) first += double{f.b[o * f.rank + k]} * f.a[k * f.cols + i];
        for (int64_t k = 0; k < f.rank2; ++k) second += double{f.b2[o * f.rank2 + k]} * f.a2[k * f.cols + i];
        each(o, i, first, second);
      }
    }
  });
}

void add_pair(Pool& pool, const PairFactors& f, const WeightView* w, float scale, const float* gains, float* out) {
  for_pair(pool, f, [&](int64_t o, int64_t i, double first, double second) {
    float base = 0;
    if (w != nullptr) decode_row(*w, o, i, 1, &base);
    out[o * f.cols + i] = static_cast<float>(base + double{scale} * (gains == nullptr ? 1 : gains[o]) * first * second);
  });
}

void split_pair(Pool& pool, const PairFactors& f, const float* gains, float* g, float* second_g) {
  for_pair(pool, f, [&](int64_t o, int64_t i, double first, double second) {
    const int64_t at = o * f.cols + i;
    const double change = double{g[at]} * (gains == nullptr ? 1 : gains[o]);
    g[at] = static_cast<float>(change * second);
    second_g[at] = static_cast<float>(change * first);
  });
}

}  // namespace

const GemmKernels gemm_reference = {gemm_nt, gemm_nn, reduce_tokens, add_pair, split_pair};

}  // namespace lowrank::cpu
