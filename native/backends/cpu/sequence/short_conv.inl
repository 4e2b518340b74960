// Short convolutions over vectors of columns.
#pragma once

#include "backends/cpu/rows/activation.inl"

inline constexpr int64_t kMostTaps = 32;

/// body(first, count, w) for chunks of columns, where w [taps, kColumnChunk] holds their weights by lag.
template <class Body>
static void for_conv_columns(const ConvWeights& conv, Body&& body) {
  const float* const weights = host(conv.w);
  float w[kMostTaps * kColumnChunk];
  for (int64_t first = 0; first < conv.cols; first += kColumnChunk) {
    const int64_t count = std::min(kColumnChunk, conv.cols - first);
    for (int64_t lag = 0; lag < conv.taps; ++lag)
      for (int64_t i = 0; i < count; ++i) w[lag * kColumnChunk + i] = weights[(first + i + 1) * conv.taps - 1 - lag];
    body(first, count, w);
  }
}

/// body(tag, gated) with the element type and whether the convolution is gated, as constants.
template <class K, class Body>
static void with_conv(const K& k, Body&& body) {
  with_type(k.x.dtype, [&](auto tag) {
    if (k.conv.gated) {
      body(tag, std::true_type());
    } else {
      body(tag, std::false_type());
    }
  });
}

template <class K>
static int64_t lags_of(const K& k, int64_t row) {
  return k.conv.lags(host(k.positions)[row]);
}

/// Input of `lanes` columns of a row: B X, or the row itself.
template <class T, bool kGated, class K, class Lanes>
static LOWRANK_INLINE V conv_input(const K& k, int64_t row, int64_t col, Lanes lanes) {
  const T* const at = row_as<T>(k.x, row) + col;
  if constexpr (!kGated) return load(at, lanes);
  return mul(load(at, lanes), load(at + 2 * k.conv.cols, lanes));
}

/// The convolution of `lanes` columns from `col` on; w points at their weights.
template <class T, bool kGated, class K, class Lanes>
static LOWRANK_INLINE V convolved(const K& k, const float* earlier, const float* w, int64_t row, int64_t col,
                                  Lanes lanes) {
  V sum = k.conv.bias ? load(host(k.conv.bias) + col, lanes) : zero();
  const int64_t lags = lags_of(k, row);
  for (int64_t lag = 0; lag < lags; ++lag) {
    const V u = lag <= row
                    ? conv_input<T, kGated>(k, row - lag, col, lanes)
                    : load(earlier + (host(k.positions)[row] - lag) % (k.conv.taps - 1) * k.conv.cols + col, lanes);
    sum = fma(u, load(w + lag * kColumnChunk, lanes), sum);
  }
  return sum;
}

/// Gradient of the convolution: dout C, or `dout` itself.
template <class T, bool kGated, class K, class Lanes>
static LOWRANK_INLINE V conv_gradient(const K& k, int64_t row, int64_t col, Lanes lanes) {
  if constexpr (!kGated) return load(row_as<T>(k.dout, row) + col, lanes);
  return mul(load(row_as<T>(k.dout, row) + col, lanes), load(row_as<T>(k.x, row) + k.conv.cols + col, lanes));
}

static void run(const Cpu& cpu, const ShortConv& k) {
  const float* const earlier = host(k.earlier.data.as<float>());
  with_conv(k, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    cpu.pool.for_range(k.rows, row_grain(k.conv.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(k.conv, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          T* const to = row_as<T>(k.out, row) + first;
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            const V conv = convolved<T, kGated>(k, earlier, w + i, row, first + i, lanes);
            V gate;
            if constexpr (kGated) {
              gate = load(row_as<T>(k.x, row) + k.conv.cols + first + i, lanes);
            } else {
              gate = sigmoid<kRounds<LOWRANK_ELEMENT(tag)>>(conv);
            }
            store(to + i, mul(conv, gate), lanes);
          });
        }
      });
    });
  });
}

static void run(const Cpu& cpu, const SiluConvSlope& k) {
  with_type(k.x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    cpu.pool.for_range(k.rows, row_grain(k.conv.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(k.conv, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            const V conv = convolved<T, false>(k, nullptr, w + i, row, first + i, lanes);
            const V slope = Silu::slope<kRounds<LOWRANK_ELEMENT(tag)>>(conv).slope;
            store(row_as<T>(k.dconv, row) + first + i, mul(load(row_as<T>(k.dout, row) + first + i, lanes), slope),
                  lanes);
          });
        }
      });
    });
  });
}

static void run(const Cpu& cpu, const ShortConvBackward& k) {
  with_conv(k, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    cpu.pool.for_range(k.rows, row_grain(3 * k.conv.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(k.conv, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          int64_t readers = 0;  // later rows of the sequence that read this one, and itself
          while (readers < k.conv.taps && row + readers < k.rows && readers < lags_of(k, row + readers)) ++readers;
          T* const to = row_as<T>(k.dx, row) + first;
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            V du = zero();
            for (int64_t lag = 0; lag < readers; ++lag)
              du = fma(conv_gradient<T, kGated>(k, row + lag, first + i, lanes),
                       load(w + lag * kColumnChunk + i, lanes), du);
            if constexpr (kGated) {
              const T* const x = row_as<T>(k.x, row) + first;
              const V conv = convolved<T, true>(k, nullptr, w + i, row, first + i, lanes);
              const V d = load(row_as<T>(k.dout, row) + first + i, lanes);
              store(to + i, mul(du, load(x + 2 * k.conv.cols + i, lanes)), lanes);
              store(to + k.conv.cols + i, mul(conv, d), lanes);
              store(to + 2 * k.conv.cols + i, mul(du, load(x + i, lanes)), lanes);
            } else {
              store(to + i, du, lanes);
            }
          });
        }
      });
    });
  });
}

/// total += part, and part = 0.
static void add_part(float* total, float* part, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    total[i] += part[i];
    part[i] = 0;
  }
}

/// Threads take columns, so that each sum over the rows has one order.
static void run(const Cpu& cpu, const ShortConvGradient& k) {
  float *const dw = host(k.dw), *const dbias = host(k.dbias);
  with_conv(k, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    cpu.pool.for_range(
        (k.conv.cols + kColumnChunk - 1) / kColumnChunk, 1, [&](int64_t first_chunk, int64_t last_chunk) {
          const int64_t sums = (k.conv.taps + 1) * kColumnChunk;  // by lag, then of the bias
          for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
            const int64_t first = chunk * kColumnChunk, count = std::min(kColumnChunk, k.conv.cols - first);
            float total[(kMostTaps + 1) * kColumnChunk] = {}, part[(kMostTaps + 1) * kColumnChunk] = {};
            float* const bias = part + k.conv.taps * kColumnChunk;
            for (int64_t row = 0; row < k.rows; ++row) {
              const int64_t lags = lags_of(k, row);
              for_vectors(0, count, [&](int64_t i, auto lanes) {
                const V g = conv_gradient<T, kGated>(k, row, first + i, lanes);
                for (int64_t lag = 0; lag < lags; ++lag) {
                  float* const sum = part + lag * kColumnChunk + i;
                  store(sum, fma(g, conv_input<T, kGated>(k, row - lag, first + i, lanes), load(sum, lanes)), lanes);
                }
                store(bias + i, add(load(bias + i, lanes), g), lanes);
              });
              if ((row + 1) % kRowChunk == 0) add_part(total, part, sums);
            }
            add_part(total, part, sums);
            for (int64_t i = 0; i < count; ++i) {
              for (int64_t lag = 0; dw != nullptr && lag < k.conv.taps; ++lag)
                dw[(first + i + 1) * k.conv.taps - 1 - lag] += total[lag * kColumnChunk + i];
              if (dbias != nullptr) dbias[first + i] += total[k.conv.taps * kColumnChunk + i];
            }
          }
        });
  });
}
