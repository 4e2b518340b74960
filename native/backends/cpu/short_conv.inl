// Short convolutions over vectors of columns. Part of ops_simd.inl.

inline constexpr int64_t kMostTaps = 32;

/// body(first, count, w) for chunks of columns, where w [taps, kColumnChunk] holds their weights by lag.
template <class Body>
static void for_conv_columns(const ShortConv& s, Body&& body) {
  float w[kMostTaps * kColumnChunk];
  for (int64_t first = 0; first < s.cols; first += kColumnChunk) {
    const int64_t count = std::min(kColumnChunk, s.cols - first);
    for (int64_t lag = 0; lag < s.taps; ++lag)
      for (int64_t i = 0; i < count; ++i) w[lag * kColumnChunk + i] = s.w[(first + i + 1) * s.taps - 1 - lag];
    body(first, count, w);
  }
}

/// body(tag, gated) with the element type and whether the convolution is gated, as constants.
template <class Body>
static void with_conv(const ShortConv& s, Body&& body) {
  with_type(s.x.dtype, [&](auto tag) {
    if (s.gated) {
      body(tag, std::true_type());
    } else {
      body(tag, std::false_type());
    }
  });
}

/// Input of `lanes` columns of a row: B X, or the row itself.
template <class T, bool kGated, class Lanes>
static LOWRANK_INLINE V conv_input(const ShortConv& s, int64_t row, int64_t col, Lanes lanes) {
  const T* const at = row_as<T>(s.x, row) + col;
  if constexpr (!kGated) return load(at, lanes);
  return mul(load(at, lanes), load(at + 2 * s.cols, lanes));
}

/// The convolution of `lanes` columns from `col` on; w points at their weights.
template <class T, bool kGated, class Lanes>
static LOWRANK_INLINE V convolved(const ShortConv& s, const float* earlier, const float* w, int64_t row, int64_t col,
                                  Lanes lanes) {
  V sum = s.bias == nullptr ? zero() : load(s.bias + col, lanes);
  const int64_t lags = s.lags(row);
  for (int64_t lag = 0; lag < lags; ++lag) {
    const V u = lag <= row ? conv_input<T, kGated>(s, row - lag, col, lanes)
                           : load(earlier + (s.positions[row] - lag) % (s.taps - 1) * s.cols + col, lanes);
    sum = fma(u, load(w + lag * kColumnChunk, lanes), sum);
  }
  return sum;
}

/// Gradient of the convolution: dout C, or `dout` itself.
template <class T, bool kGated, class Lanes>
static LOWRANK_INLINE V conv_gradient(const ShortConv& s, const Matrix& dout, int64_t row, int64_t col, Lanes lanes) {
  if constexpr (!kGated) return load(row_as<T>(dout, row) + col, lanes);
  return mul(load(row_as<T>(dout, row) + col, lanes), load(row_as<T>(s.x, row) + s.cols + col, lanes));
}

static void short_conv(Pool& pool, const ShortConv& s, const float* earlier, const Matrix& out) {
  with_conv(s, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    pool.for_range(s.rows, row_grain(s.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(s, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          T* const to = row_as<T>(out, row) + first;
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            const V conv = convolved<T, kGated>(s, earlier, w + i, row, first + i, lanes);
            V gate;
            if constexpr (kGated) {
              gate = load(row_as<T>(s.x, row) + s.cols + first + i, lanes);
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

static void silu_conv_slope(Pool& pool, const ShortConv& s, const Matrix& dout, const Matrix& dconv) {
  with_type(s.x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    pool.for_range(s.rows, row_grain(s.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(s, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            const V conv = convolved<T, false>(s, nullptr, w + i, row, first + i, lanes);
            const V slope = Silu::slope<kRounds<LOWRANK_ELEMENT(tag)>>(conv).slope;
            store(row_as<T>(dconv, row) + first + i, mul(load(row_as<T>(dout, row) + first + i, lanes), slope), lanes);
          });
        }
      });
    });
  });
}

static void short_conv_backward(Pool& pool, const ShortConv& s, const Matrix& dout, const Matrix& dx) {
  with_conv(s, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    pool.for_range(s.rows, row_grain(3 * s.cols), [&](int64_t begin, int64_t end) {
      for_conv_columns(s, [&](int64_t first, int64_t count, const float* w) {
        for (int64_t row = begin; row < end; ++row) {
          int64_t readers = 0;  // later rows of the sequence that read this one, and itself
          while (readers < s.taps && row + readers < s.rows && readers < s.lags(row + readers)) ++readers;
          T* const to = row_as<T>(dx, row) + first;
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            V du = zero();
            for (int64_t lag = 0; lag < readers; ++lag)
              du = fma(conv_gradient<T, kGated>(s, dout, row + lag, first + i, lanes),
                       load(w + lag * kColumnChunk + i, lanes), du);
            if constexpr (kGated) {
              const T* const x = row_as<T>(s.x, row) + first;
              const V conv = convolved<T, true>(s, nullptr, w + i, row, first + i, lanes);
              const V d = load(row_as<T>(dout, row) + first + i, lanes);
              store(to + i, mul(du, load(x + 2 * s.cols + i, lanes)), lanes);
              store(to + s.cols + i, mul(conv, d), lanes);
              store(to + 2 * s.cols + i, mul(du, load(x + i, lanes)), lanes);
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
static void short_conv_gradient(Pool& pool, const ShortConv& s, const Matrix& dout, float* dw, float* dbias) {
  with_conv(s, [&](auto tag, auto gated) {
    using T = LOWRANK_ELEMENT(tag);
    constexpr bool kGated = decltype(gated)::value;
    pool.for_range((s.cols + kColumnChunk - 1) / kColumnChunk, 1, [&](int64_t first_chunk, int64_t last_chunk) {
      const int64_t sums = (s.taps + 1) * kColumnChunk;  // by lag, then of the bias
      for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
        const int64_t first = chunk * kColumnChunk, count = std::min(kColumnChunk, s.cols - first);
        float total[(kMostTaps + 1) * kColumnChunk] = {}, part[(kMostTaps + 1) * kColumnChunk] = {};
        float* const bias = part + s.taps * kColumnChunk;
        for (int64_t row = 0; row < s.rows; ++row) {
          const int64_t lags = s.lags(row);
          for_vectors(0, count, [&](int64_t i, auto lanes) {
            const V g = conv_gradient<T, kGated>(s, dout, row, first + i, lanes);
            for (int64_t lag = 0; lag < lags; ++lag) {
              float* const sum = part + lag * kColumnChunk + i;
              store(sum, fma(g, conv_input<T, kGated>(s, row - lag, first + i, lanes), load(sum, lanes)), lanes);
            }
            store(bias + i, add(load(bias + i, lanes), g), lanes);
          });
          if ((row + 1) % kRowChunk == 0) add_part(total, part, sums);
        }
        add_part(total, part, sums);
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t lag = 0; dw != nullptr && lag < s.taps; ++lag)
            dw[(first + i + 1) * s.taps - 1 - lag] += total[lag * kColumnChunk + i];
          if (dbias != nullptr) dbias[first + i] += total[s.taps * kColumnChunk + i];
        }
      }
    });
  });
}
