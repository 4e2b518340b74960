// Short convolutions as their definition has them, element by element, with sums in double.
#include "backends/cpu/ops_common.h"
#include "core/math.h"

namespace lowrank::cpu {
namespace {

double element(const Matrix& m, int64_t row, int64_t col) { return load_element(row_of(m, row), m.dtype, col); }

/// Input of a row of this call: B X, or the row itself.
double input(const ShortConv& s, int64_t row, int64_t col) {
  return s.gated ? element(s.x, row, col) * element(s.x, row, 2 * s.cols + col) : element(s.x, row, col);
}

double sigmoid(double x) { return 1 / (1 + math::exp(-x)); }

/// The convolution of the input. Inputs are rounded as those that are kept.
double convolved(const ShortConv& s, const float* earlier, int64_t row, int64_t col) {
  double sum = s.bias == nullptr ? 0 : s.bias[col];
  for (int64_t lag = 0; lag < s.lags(row); ++lag) {
    const float u = lag <= row ? static_cast<float>(input(s, row - lag, col))
                               : earlier[(s.positions[row] - lag) % (s.taps - 1) * s.cols + col];
    sum += double{u} * s.w[(col + 1) * s.taps - 1 - lag];
  }
  return sum;
}

/// Gradient of the convolution: dout C, or `dout` itself.
double gradient(const ShortConv& s, const Matrix& dout, int64_t row, int64_t col) {
  return s.gated ? element(dout, row, col) * element(s.x, row, s.cols + col) : element(dout, row, col);
}

template <class Body>
void for_elements(Pool& pool, const ShortConv& s, Body&& body) {
  pool.for_range(s.rows, row_grain(s.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t col = 0; col < s.cols; ++col) body(row, col);
  });
}

void set(const Matrix& m, int64_t row, int64_t col, double value) {
  store_element(row_of(m, row), m.dtype, col, static_cast<float>(value));
}

}  // namespace

void short_conv_reference(Pool& pool, const ShortConv& s, const float* earlier, const Matrix& out) {
  for_elements(pool, s, [&](int64_t row, int64_t col) {
    const double conv = convolved(s, earlier, row, col);
    set(out, row, col, conv * (s.gated ? element(s.x, row, s.cols + col) : sigmoid(conv)));
  });
}

void silu_conv_slope_reference(Pool& pool, const ShortConv& s, const Matrix& dout, const Matrix& dconv) {
  for_elements(pool, s, [&](int64_t row, int64_t col) {
    const double conv = convolved(s, nullptr, row, col), gate = sigmoid(conv);
    set(dconv, row, col, element(dout, row, col) * gate * (1 + conv * (1 - gate)));
  });
}

void short_conv_backward_reference(Pool& pool, const ShortConv& s, const Matrix& dout, const Matrix& dx) {
  for_elements(pool, s, [&](int64_t row, int64_t col) {
    double du = 0;
    for (int64_t lag = 0; lag < s.taps && row + lag < s.rows && lag < s.lags(row + lag); ++lag)
      du += gradient(s, dout, row + lag, col) * s.w[(col + 1) * s.taps - 1 - lag];
    if (!s.gated) return set(dx, row, col, du);
    set(dx, row, col, du * element(s.x, row, 2 * s.cols + col));
    set(dx, row, s.cols + col, element(dout, row, col) * convolved(s, nullptr, row, col));
    set(dx, row, 2 * s.cols + col, du * element(s.x, row, col));
  });
}

void short_conv_gradient_reference(Pool& pool, const ShortConv& s, const Matrix& dout, float* dw, float* dbias) {
  pool.for_range(s.cols, kColumnChunk, [&](int64_t begin, int64_t end) {
    for (int64_t col = begin; col < end; ++col) {
      for (int64_t lag = 0; dw != nullptr && lag < s.taps; ++lag) {
        double sum = 0;
        for (int64_t row = lag; row < s.rows; ++row)
          if (lag < s.lags(row)) sum += gradient(s, dout, row, col) * input(s, row - lag, col);
        dw[(col + 1) * s.taps - 1 - lag] += static_cast<float>(sum);
      }
      double sum = 0;
      for (int64_t row = 0; dbias != nullptr && row < s.rows; ++row) sum += gradient(s, dout, row, col);
      if (dbias != nullptr) dbias[col] += static_cast<float>(sum);
    }
  });
}

void keep_conv_inputs(const ShortConv& s, int64_t block, float* last, float* ends) {
  const int64_t count = s.taps - 1, past = s.positions[0];
  const auto keep = [&](int64_t row, float* to) {
    for (int64_t col = 0; col < s.cols; ++col) to[col] = static_cast<float>(input(s, row, col));
  };
  for (int64_t row = 0; row < s.rows; ++row) {
    const int64_t position = past + row, slot = position % count;
    if (row >= s.rows - count) keep(row, last + slot * s.cols);
    if (position % block >= block - count)
      keep(row, ends + ((position / block - past / block) * count + slot) * s.cols);
  }
}

}  // namespace lowrank::cpu
