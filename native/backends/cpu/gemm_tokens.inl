// Reductions over tokens in fp32: outer products of a token's row of u with its row of x, both read as they lie. The
// tokens are added in order; only the output is divided among threads.

template <int kRows>
void sum_tokens(const float* u, int64_t u_ld, const Operand& x, int64_t column, int64_t tokens, int64_t valid,
                float* sums) {
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
    const float* p = static_cast<const float*>(x.data) + column;
    if (whole) {
      accumulate([&](int64_t t, int v) { return load(p + t * x.ld + v * kVector); });
    } else {
      accumulate([&](int64_t t, int v) { return load_first(p + t * x.ld + v * kVector, partial(v)); });
    }
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(x.data) + column;
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
  constexpr int64_t kStrip = kFp32PanelVectors * kVector, kRows = 6;
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
  const int64_t strips = (n + kStrip - 1) / kStrip, groups = (r + kRows - 1) / kRows;
  pool.for_range(strips * groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit / groups * kStrip, group = unit % groups;
      const int64_t row = part_begin(r, groups, group), rows = part_begin(r, groups, group + 1) - row;
      const int64_t valid = std::min(kStrip, n - column);
      alignas(64) float sums[kRows * kStrip];
      constexpr decltype(&sum_tokens<1>) kernels[] = {sum_tokens<1>, sum_tokens<2>, sum_tokens<3>,
                                                      sum_tokens<4>, sum_tokens<5>, sum_tokens<6>};
      kernels[rows - 1](factors + row, factors_ld, x, column, tokens, valid, sums);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < valid; ++j) {
          float& target = transposed ? out[(column + j) * out_ld + row + i] : out[(row + i) * out_ld + column + j];
          target += scale * sums[i * kStrip + j];
        }
      }
    }
  });
}
