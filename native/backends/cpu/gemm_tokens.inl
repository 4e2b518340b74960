// Reductions over tokens in fp32: outer products of a token's row of u with its row of x, both read as they lie, a block
// of tokens at a time so that the rows of x stay in the cache. Tokens are added in order, blocks in order; only the
// output is divided among threads.

template <int kRows>
void sum_tokens(const float* u, int64_t u_ld, const Operand& x, int64_t first_token, int64_t column,
                int64_t tokens, int64_t valid, float* sums) {
  constexpr int kVectors = kFp32PanelVectors;
  Vec c[kRows][kVectors];
  LOWRANK_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) c[i][v] = zero();
  }
  const auto accumulate = [&](auto&& row_of) {
    for (int64_t t = 0; t < tokens; ++t, u += u_ld) {
      Vec b[kVectors];
      LOWRANK_UNROLL
      for (int v = 0; v < kVectors; ++v) b[v] = row_of(t, v);
      LOWRANK_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Vec factor = broadcast(u[i]);
        LOWRANK_UNROLL
        for (int v = 0; v < kVectors; ++v) c[i][v] = fma(factor, b[v], c[i][v]);
      }
    }
  };
  const bool whole = valid == kVectors * kVector;
  const auto partial = [&](int v) { return std::clamp<int64_t>(valid - v * kVector, 0, kVector); };
  if (x.dtype == DType::f32) {
    const float* p = static_cast<const float*>(x.data) + first_token * x.ld + column;
    if (whole) {
      accumulate([&](int64_t t, int v) { return load(p + t * x.ld + v * kVector); });
    } else {
      accumulate([&](int64_t t, int v) { return load_first(p + t * x.ld + v * kVector, partial(v)); });
    }
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(x.data) + first_token * x.ld + column;
    if (whole) {
      accumulate([&](int64_t t, int v) { return load_bf16(p + t * x.ld + v * kVector); });
    } else {
      accumulate([&](int64_t t, int v) { return load_bf16_first(p + t * x.ld + v * kVector, partial(v)); });
    }
  }
  LOWRANK_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) store(sums + (i * kVectors + v) * kVector, c[i][v]);
  }
}

inline void reduce_tokens(Pool& pool, int64_t tokens, const Operand& u, int64_t r, const Operand& x, int64_t n,
                          float scale, float* out, int64_t out_ld, bool transposed, std::byte* workspace) {
  if (tokens <= 0 || r <= 0 || n <= 0) return;
  constexpr int64_t kStrip = kFp32PanelVectors * kVector, kRows = 6, kTokens = 128;
  const float* factors = static_cast<const float*>(u.data);
  int64_t factors_ld = u.ld;
  if (u.dtype != DType::f32) {
    float* copy = reinterpret_cast<float*>(workspace);
    pool.for_range(tokens, 512, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) Fp32::copy_row(u, t, {0, 0, r, r}, copy + t * r);
    });
    factors = copy;
    factors_ld = r;
  }
  float* sums = reinterpret_cast<float*>(workspace + factors_bytes(tokens, r));  // [strips][r][kStrip]
  const int64_t strips = (n + kStrip - 1) / kStrip, groups = (r + kRows - 1) / kRows;
  constexpr decltype(&sum_tokens<1>) kernels[] = {sum_tokens<1>, sum_tokens<2>, sum_tokens<3>,
                                                  sum_tokens<4>, sum_tokens<5>, sum_tokens<6>};
  pool.run([&](int thread, int threads) {
    const int64_t first = part_begin(strips, threads, thread), last = part_begin(strips, threads, thread + 1);
    for (int64_t t = 0; t < tokens; t += kTokens) {
      const int64_t count = std::min(kTokens, tokens - t);
      for (int64_t strip = first; strip < last; ++strip) {
        const int64_t valid = std::min(kStrip, n - strip * kStrip);
        for (int64_t group = 0; group < groups; ++group) {
          const int64_t row = part_begin(r, groups, group), rows = part_begin(r, groups, group + 1) - row;
          alignas(64) float block[kRows * kStrip];
          kernels[rows - 1](factors + t * factors_ld + row, factors_ld, x, t, strip * kStrip, count, valid, block);
          float* target = sums + (strip * r + row) * kStrip;
          for (int64_t i = 0; i < rows * kStrip; i += kVector) {
            store(target + i, t == 0 ? load(block + i) : add(load(target + i), load(block + i)));
          }
        }
      }
    }
    for (int64_t strip = first; strip < last; ++strip) {
      const int64_t column = strip * kStrip, valid = std::min(kStrip, n - column);
      for (int64_t i = 0; i < r; ++i) {
        for (int64_t j = 0; j < valid; ++j) {
          float& target = transposed ? out[(column + j) * out_ld + i] : out[i * out_ld + column + j];
          target += scale * sums[(strip * r + i) * kStrip + j];
        }
      }
    }
  });
}
