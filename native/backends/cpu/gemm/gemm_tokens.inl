// Reductions over tokens in fp32: outer products of a token's row of u with its row of x, a block of tokens and a strip
// of columns of x at a time. The columns of u are copied in groups of a few, one token's after the other's: where they
// lie, rows that are a power of two apart would fall on few sets of the cache. So is a strip of x where many groups
// read it. Tokens are added in order, blocks in order; only the output is divided among threads.

// `u` is a group of columns: kRows values of every token.
template <int kRows>
void sum_tokens(const float* u, const Matrix& x, int64_t first_token, int64_t column, int64_t tokens, int64_t valid,
                float* sums) {
  constexpr int kVectors = kFp32PanelVectors;
  Vec c[kRows][kVectors];
  LOWRANK_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) c[i][v] = zero();
  }
  const auto accumulate = [&](auto&& row_of) {
    for (int64_t t = 0; t < tokens; ++t, u += kRows) {
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
    const float* p = row_as<float>(x, first_token) + column;
    if (whole) {
      accumulate([&](int64_t t, int v) { return load(p + t * x.ld + v * kVector); });
    } else {
      accumulate([&](int64_t t, int v) { return load_first(p + t * x.ld + v * kVector, partial(v)); });
    }
  } else {
    const uint16_t* p = row_as<uint16_t>(x, first_token) + column;
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

// The values of some tokens of column [begin, begin + count) of u.
inline void copy_factors(const Matrix& u, int64_t first_token, int64_t last_token, int64_t begin, int64_t count,
                         float* out) {
  for (int64_t t = first_token; t < last_token; ++t, out += count) {
    const int64_t at = t * u.ld + begin;
    for (int64_t i = 0; i < count; ++i) {
      out[i] =
          u.dtype == DType::f32 ? host(u.data.as<float>())[at + i] : f32_from_bf16(host(u.data.as<uint16_t>())[at + i]);
    }
  }
}

// `valid` columns from `column` on of some tokens, filled up with zeros to a strip: [tokens][kFp32PanelVectors
// vectors].
inline void copy_columns(const Matrix& x, int64_t first_token, int64_t tokens, int64_t column, int64_t valid,
                         float* out) {
  const auto copy = [&](auto&& vector_at) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t v = 0; v < kFp32PanelVectors * kVector; v += kVector, out += kVector) {
        const int64_t at = (first_token + t) * x.ld + column + v, count = std::min<int64_t>(valid - v, kVector);
        store(out, count <= 0 ? zero() : vector_at(at, count));
      }
    }
  };
  if (x.dtype == DType::f32) {
    const float* const p = host(x.data.as<float>());
    copy([&](int64_t at, int64_t count) { return count == kVector ? load(p + at) : load_first(p + at, count); });
  } else {
    const uint16_t* const p = host(x.data.as<uint16_t>());
    copy([&](int64_t at, int64_t count) {
      return count == kVector ? load_bf16(p + at) : load_bf16_first(p + at, count);
    });
  }
}

void run(const Cpu& cpu, const ReduceTokens& k) {
  const int64_t tokens = k.tokens, r = k.r, n = k.n;
  if (tokens <= 0 || r <= 0 || n <= 0) return;
  constexpr int64_t kStrip = kFp32PanelVectors * kVector, kRows = kFp32TileRows, kTokens = 128;
  static_assert(kTokens * kStrip * static_cast<int64_t>(sizeof(float)) <= kThreadBytes);
  const int64_t strips = (n + kStrip - 1) / kStrip, groups = (r + kRows - 1) / kRows;
  const bool copies = groups > 8;
  float* const factors = reinterpret_cast<float*>(cpu.room);  // by group [tokens][rows of the group]
  float* const sums = reinterpret_cast<float*>(cpu.room + factors_bytes(tokens, r));  // [strips][r][kStrip]
  std::byte* const rest = cpu.room + factors_bytes(tokens, r) + sums_bytes(r, n);
  cpu.pool.for_range(tokens, 512, [&](int64_t begin, int64_t end) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t row = part_begin(r, groups, group), rows = part_begin(r, groups, group + 1) - row;
      copy_factors(k.u, begin, end, row, rows, factors + row * tokens + begin * rows);
    }
  });
  constexpr decltype(&sum_tokens<1>) kernels[] = {sum_tokens<1>, sum_tokens<2>, sum_tokens<3>,
                                                  sum_tokens<4>, sum_tokens<5>, sum_tokens<6>};
  cpu.pool.run([&](int thread, int threads) {
    const int64_t first = part_begin(strips, threads, thread), last = part_begin(strips, threads, thread + 1);
    float* const columns = reinterpret_cast<float*>(rest + thread * kThreadBytes);  // [kTokens][kStrip]
    for (int64_t t = 0; t < tokens; t += kTokens) {
      const int64_t count = std::min(kTokens, tokens - t);
      for (int64_t strip = first; strip < last; ++strip) {
        const int64_t valid = std::min(kStrip, n - strip * kStrip);
        if (copies) copy_columns(k.x, t, count, strip * kStrip, valid, columns);
        for (int64_t group = 0; group < groups; ++group) {
          const int64_t row = part_begin(r, groups, group), rows = part_begin(r, groups, group + 1) - row;
          alignas(64) float block[kRows * kStrip];
          const float* const group_factors = factors + row * tokens + t * rows;
          if (copies) {
            kernels[rows - 1](group_factors, f32_matrix(address_of(columns), kStrip), 0, 0, count, kStrip, block);
          } else {
            kernels[rows - 1](group_factors, k.x, t, strip * kStrip, count, valid, block);
          }
          float* target = sums + (strip * r + row) * kStrip;
          for (int64_t i = 0; i < rows * kStrip; i += kVector) {
            store(target + i, t == 0 ? load(block + i) : add(load(target + i), load(block + i)));
          }
        }
      }
    }
    for (int64_t strip = first; strip < last; ++strip) {
      const int64_t column = strip * kStrip, valid = std::min(kStrip, n - column);
      const float* const from = sums + strip * r * kStrip;
      if (k.transposed) {
        add_sums<true>(from, kStrip, r, valid, k.scale, host(k.out) + column * k.ld, k.ld);
      } else {
        add_sums<false>(from, kStrip, r, valid, k.scale, host(k.out) + column, k.ld);
      }
    }
  });
}
