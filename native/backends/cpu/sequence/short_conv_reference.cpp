// Short convolutions as their definition has them, element by element, with sums in double.
#include "backends/cpu/reference.h"

namespace lowrank::cpu {
namespace {

/// Input of a row of this call: B X, or the row itself.
double input(const Matrix& x, bool gated, int64_t cols, int64_t row, int64_t col) {
  return gated ? element(x, row, col) * element(x, row, 2 * cols + col) : element(x, row, col);
}
template <class K>
double input(const K& k, int64_t row, int64_t col) {
  return input(k.x, k.conv.gated, k.conv.cols, row, col);
}

template <class K>
int64_t lags_of(const K& k, int64_t row) {
  return k.conv.lags(host(k.positions)[row]);
}

/// The weight of a lag.
template <class K>
float weight(const K& k, int64_t col, int64_t lag) {
  return host(k.conv.w)[(col + 1) * k.conv.taps - 1 - lag];
}

/// The convolution of the input. Inputs are rounded as those that are kept.
template <class K>
double convolved(const K& k, const float* earlier, int64_t row, int64_t col) {
  double sum = k.conv.bias ? host(k.conv.bias)[col] : 0;
  for (int64_t lag = 0; lag < lags_of(k, row); ++lag) {
    const float u = lag <= row ? static_cast<float>(input(k, row - lag, col))
                               : earlier[(host(k.positions)[row] - lag) % (k.conv.taps - 1) * k.conv.cols + col];
    sum += double{u} * weight(k, col, lag);
  }
  return sum;
}

/// Gradient of the convolution: dout C, or `dout` itself.
template <class K>
double gradient(const K& k, int64_t row, int64_t col) {
  return k.conv.gated ? element(k.dout, row, col) * element(k.x, row, k.conv.cols + col) : element(k.dout, row, col);
}

template <class K, class Body>
void for_elements(const Cpu& cpu, const K& k, Body&& body) {
  for_rows(cpu, k.rows, k.conv.cols, [&](int64_t row) {
    for (int64_t col = 0; col < k.conv.cols; ++col) body(row, col);
  });
}

}  // namespace

void reference(const Cpu& cpu, const ShortConv& k) {
  for_elements(cpu, k, [&](int64_t row, int64_t col) {
    const double conv = convolved(k, host(k.earlier.data.as<float>()), row, col);
    set(k.out, row, col, conv * (k.conv.gated ? element(k.x, row, k.conv.cols + col) : sigmoid(conv)));
  });
}

void reference(const Cpu& cpu, const SiluConvSlope& k) {
  for_elements(cpu, k, [&](int64_t row, int64_t col) {
    const double conv = convolved(k, nullptr, row, col), gate = sigmoid(conv);
    set(k.dconv, row, col, element(k.dout, row, col) * gate * (1 + conv * (1 - gate)));
  });
}

void reference(const Cpu& cpu, const ShortConvBackward& k) {
  const int64_t cols = k.conv.cols;
  for_elements(cpu, k, [&](int64_t row, int64_t col) {
    double du = 0;
    for (int64_t lag = 0; lag < k.conv.taps && row + lag < k.rows && lag < lags_of(k, row + lag); ++lag)
      du += gradient(k, row + lag, col) * weight(k, col, lag);
    if (!k.conv.gated) return set(k.dx, row, col, du);
    set(k.dx, row, col, du * element(k.x, row, 2 * cols + col));
    set(k.dx, row, cols + col, element(k.dout, row, col) * convolved(k, nullptr, row, col));
    set(k.dx, row, 2 * cols + col, du * element(k.x, row, col));
  });
}

void reference(const Cpu& cpu, const ShortConvGradient& k) {
  float *const dw = host(k.dw), *const dbias = host(k.dbias);
  cpu.pool.for_range(k.conv.cols, kColumnChunk, [&](int64_t begin, int64_t end) {
    for (int64_t col = begin; col < end; ++col) {
      for (int64_t lag = 0; dw != nullptr && lag < k.conv.taps; ++lag) {
        double sum = 0;
        for (int64_t row = lag; row < k.rows; ++row)
          if (lag < lags_of(k, row)) sum += gradient(k, row, col) * input(k, row - lag, col);
        dw[(col + 1) * k.conv.taps - 1 - lag] += static_cast<float>(sum);
      }
      double sum = 0;
      for (int64_t row = 0; dbias != nullptr && row < k.rows; ++row) sum += gradient(k, row, col);
      if (dbias != nullptr) dbias[col] += static_cast<float>(sum);
    }
  });
}

void reference(const Cpu&, const KeepConvInputs& k) {
  const int64_t past = host(k.positions)[0];
  const auto keep = [&](int64_t row, const Matrix& rows, int64_t at) {
    float* const to = host(rows.data.as<float>()) + at * k.cols;
    for (int64_t col = 0; col < k.cols; ++col) to[col] = static_cast<float>(input(k.x, k.gated, k.cols, row, col));
  };
  for (int64_t row = 0; row < k.rows; ++row) {
    const int64_t position = past + row, slot = position % k.count;
    if (row >= k.rows - k.count) keep(row, k.last, slot);
    if (position % k.block >= k.block - k.count)
      keep(row, k.ends, (position / k.block - past / k.block) * k.count + slot);
  }
}

int64_t workspace(const ShortConvGradient&, int) { return 0; }

}  // namespace lowrank::cpu
