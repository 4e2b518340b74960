// Products with a Kronecker product over the vectors of one instruction set. Included once per level, after
// vec_math.inl and inside ops_simd.inl. All of them are small products of matrices in the first levels of cache, of
// which one operand is the same for all tokens.

/// c[R, N vectors] (+)= sum over steps of a[i, step] b[step, :]; the last vector has `lanes` columns if kPart.
template <int R, int N, bool kPart>
static LOWRANK_INLINE void small_tile(int64_t steps, const float* a, int64_t a_row, int64_t a_step, const float* b,
                                      int64_t b_ld, float* c, int64_t c_ld, bool adds, int64_t lanes) {
  V sums[R][N];
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j) {
      const bool part = kPart && j == N - 1;
      const float* from = c + i * c_ld + j * W;
      sums[i][j] = !adds ? zero() : part ? load(from, lanes) : load(from);
    }
  for (int64_t step = 0; step < steps; ++step) {
    V row[N];
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j)
      row[j] = kPart && j == N - 1 ? load(b + step * b_ld + j * W, lanes) : load(b + step * b_ld + j * W);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const V factor = set1(a[i * a_row + step * a_step]);
#pragma GCC unroll 3
      for (int j = 0; j < N; ++j) sums[i][j] = fma(factor, row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j) {
      float* to = c + i * c_ld + j * W;
      if (kPart && j == N - 1)
        store(to, sums[i][j], lanes);
      else
        store(to, sums[i][j]);
    }
}

/// A matrix by the distances between its rows and between its columns.
struct Strided {
  const float* data;
  int64_t row, column;
};
static Strided plain(const float* data, int64_t cols) { return {data, cols, 1}; }
static Strided transposed(const float* data, int64_t cols) { return {data, 1, cols}; }

template <int R, int N, bool kPart>
static void small_panel(int64_t rows, int64_t steps, const Strided& a, const float* b, int64_t b_ld, float* c,
                        int64_t c_ld, bool adds, int64_t lanes) {
  int64_t i = 0;
  for (; i + R <= rows; i += R)
    small_tile<R, N, kPart>(steps, a.data + i * a.row, a.row, a.column, b, b_ld, c + i * c_ld, c_ld, adds, lanes);
  for (; i < rows; ++i)
    small_tile<1, N, kPart>(steps, a.data + i * a.row, a.row, a.column, b, b_ld, c + i * c_ld, c_ld, adds, lanes);
}

/// c[rows, cols] (+)= a[rows, steps] b[steps, cols]; b and c are dense.
static void small_product(int64_t rows, int64_t cols, int64_t steps, const Strided& a, const float* b, float* c,
                          bool adds) {
  for (int64_t at = 0; at < cols; at += 3 * W) {
    const int64_t left = std::min(cols - at, 3 * W), vectors = (left + W - 1) / W, lanes = left - (vectors - 1) * W;
    const auto panel = [&](auto count, auto part) {
      small_panel<4, decltype(count)::value, decltype(part)::value>(rows, steps, a, b + at, cols, c + at, cols, adds,
                                                                    lanes);
    };
    const auto wide = [&](auto count) {
      if (lanes == W)
        panel(count, std::false_type{});
      else
        panel(count, std::true_type{});
    };
    if (vectors == 3)
      wide(std::integral_constant<int, 3>{});
    else if (vectors == 2)
      wide(std::integral_constant<int, 2>{});
    else
      wide(std::integral_constant<int, 1>{});
  }
}

/// out[cols, rows] = in[rows, cols].
static void transpose_into(int64_t rows, int64_t cols, const float* in, float* out) {
  const int64_t whole_rows = rows / W * W, whole_cols = cols / W * W;
  for (int64_t i = 0; i < whole_rows; i += W)
    for (int64_t j = 0; j < whole_cols; j += W) {
      V square[W];
      for (int64_t v = 0; v < W; ++v) square[v] = load(in + (i + v) * cols + j);
      transpose(square);
      for (int64_t v = 0; v < W; ++v) store(out + (j + v) * rows + i, square[v]);
    }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; ++j) out[j * rows + i] = in[i * cols + j];
}

/// Hands out the workspace in pieces of whole cache lines.
struct Room {
  float* at;
  float* take(int64_t floats) {
    float* const taken = at;
    at += (floats + 15) / 16 * 16;
    return taken;
  }
};

/// Factors as the small products want them on their right.
struct TurnedFactors {
  const float *c, *c_turned, *d, *d_turned, *d2, *d2_turned;
};
static TurnedFactors turn(const KroneckerShape& s, const KroneckerFactors& f, Room& room) {
  float* const c = room.take(s.l * s.p);
  float* const d = room.take(s.k * std::max(s.r, s.q));
  float* const d2 = room.take(s.r * s.q);
  transpose_into(s.l, s.p, f.c, c);
  transpose_into(s.k, s.r > 0 ? s.r : s.q, f.d, d);
  if (s.r > 0) transpose_into(s.r, s.q, f.d2, d2);
  return {f.c, c, f.d, d, f.d2, d2};
}

/// out[rows, k] = x[rows, q] D^T; `z` [rows, r] is left with x d2^T.
static void through_d(const KroneckerShape& s, const TurnedFactors& f, int64_t rows, const float* x, float* z,
                      float* out) {
  if (s.r == 0) return small_product(rows, s.k, s.q, plain(x, s.q), f.d_turned, out, false);
  small_product(rows, s.r, s.q, plain(x, s.q), f.d2_turned, z, false);
  small_product(rows, s.k, s.r, plain(z, s.r), f.d_turned, out, false);
}
/// out[rows, q] = g[rows, k] D; `z` [rows, r] is left with g d.
static void back_through_d(const KroneckerShape& s, const TurnedFactors& f, int64_t rows, const float* g, float* z,
                           float* out) {
  if (s.r == 0) return small_product(rows, s.q, s.k, plain(g, s.k), f.d, out, false);
  small_product(rows, s.r, s.k, plain(g, s.k), f.d, z, false);
  small_product(rows, s.q, s.r, plain(z, s.r), f.d2, out, false);
}

/// Rows of an operand in fp32, in place where they are that already.
static const float* rows_f32(const Matrix& x, int64_t begin, int64_t rows, int64_t cols, float* room) {
  if (x.dtype == DType::f32 && x.ld == cols) return row_as<float>(x, begin);
  with_type(x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    for (int64_t i = 0; i < rows; ++i) convert_row(row_as<T>(x, begin + i), room + i * cols, cols);
  });
  return room;
}

static void kronecker(Pool& pool, int64_t tokens, const KroneckerShape& s, const KroneckerFactors& factors, float scale,
                      const float* gains, const Matrix& x, const float* residual, float* out, std::byte* workspace) {
  const KroneckerWork work = kronecker_work(s, tokens);
  Room room{reinterpret_cast<float*>(workspace)};
  const TurnedFactors f = turn(s, factors, room);
  float* const threads = reinterpret_cast<float*>(workspace) + work.shared;
  const bool first = mixes_first(s);
  const int64_t m = s.out(), blocks = (tokens + work.block - 1) / work.block;
  for_units(pool, blocks, [&](int thread, int64_t unit) {
    const int64_t begin = unit * work.block, count = std::min(work.block, tokens - begin);
    const int64_t rows = first ? s.l : s.p;
    Room own{threads + thread * work.per_thread};
    const float* const in = rows_f32(x, begin, count, s.in(), own.take(work.block * s.in()));
    float* const y = own.take(work.block * m);
    float* const between = own.take(work.block * rows * (first ? s.q : s.k));
    float* const z = own.take(work.block * rows * s.r);
    if (first) {
      for (int64_t t = 0; t < count; ++t)
        small_product(s.l, s.q, s.p, plain(f.c, s.p), in + t * s.in(), between + t * s.l * s.q, false);
      through_d(s, f, count * s.l, between, z, y);
    } else {
      through_d(s, f, count * s.p, in, z, between);
      for (int64_t t = 0; t < count; ++t)
        small_product(s.l, s.k, s.p, plain(f.c, s.p), between + t * s.p * s.k, y + t * m, false);
    }
    const V factor = set1(scale);
    for (int64_t t = 0; t < count; ++t) {
      float* const to = out + (begin + t) * m;
      const float* const base = residual == nullptr ? nullptr : residual + (begin + t) * m;
      for_vectors(0, m, [&](int64_t i, auto lanes) {
        V value = mul(load(y + t * m + i, lanes), factor);
        if (gains != nullptr) value = mul(value, load(gains + i, lanes));
        if (base != nullptr) value = add(value, load(base + i, lanes));
        store(to + i, value, lanes);
      });
    }
  });
}

/// Adds the sums of all chunks, in order, to the gradients that are wanted.
static void add_chunks(Pool& pool, const KroneckerShape& s, const KroneckerWork& work, float* chunks,
                       const KroneckerGradients& to) {
  Room sums{chunks};
  for (const auto& [gradient, elements] :
       {std::pair{to.c, s.l * s.p}, {to.d, s.d_elements()}, {to.d2, s.d2_elements()}}) {
    const float* const from = sums.take(elements);
    if (gradient == nullptr) continue;
    float* const into = gradient;
    pool.for_range(elements, 4096, [&](int64_t begin, int64_t end) {
      for_vectors(begin, end, [&](int64_t i, auto lanes) {
        V value = load(into + i, lanes);
        for (int64_t chunk = 0; chunk < work.chunks; ++chunk)
          value = add(value, load(from + chunk * work.per_chunk + i, lanes));
        store(into + i, value, lanes);
      });
    });
  }
}

static void kronecker_backward(Pool& pool, int64_t tokens, const KroneckerShape& s, const KroneckerFactors& factors,
                               float scale, const float* gains, const Matrix& x, const Matrix& dy,
                               const KroneckerGradients& to, float* dx, bool adds_dx, std::byte* workspace) {
  const KroneckerWork work = kronecker_work(s, tokens);
  Room room{reinterpret_cast<float*>(workspace)};
  const TurnedFactors f = turn(s, factors, room);
  float* const threads = reinterpret_cast<float*>(workspace) + work.shared;
  float* const chunks = threads + pool.threads() * work.per_thread;
  const bool first = mixes_first(s);
  const int64_t m = s.out(), n = s.in(), rows = first ? s.l : s.p, width = first ? s.q : s.k;
  for_units(pool, work.chunks, [&](int thread, int64_t chunk) {
    Room sums{chunks + chunk * work.per_chunk};
    float* const dc = sums.take(s.l * s.p);
    float* const dd = sums.take(s.d_elements());
    float* const dd2 = sums.take(s.d2_elements());
    std::memset(dc, 0, static_cast<size_t>(work.per_chunk) * 4);
    const int64_t last = std::min(tokens, (chunk + 1) * work.chunk_tokens);
    for (int64_t begin = chunk * work.chunk_tokens; begin < last; begin += work.block) {
      const int64_t count = std::min(work.block, last - begin), all = count * rows;
      Room own{threads + thread * work.per_thread};
      const float* const in = rows_f32(x, begin, count, n, own.take(work.block * n));
      float* const change = own.take(work.block * n);
      float* const g = own.take(work.block * m);
      float* const forth = own.take(work.block * rows * width);
      float* const back = own.take(work.block * rows * width);
      float* const z_forth = own.take(work.block * rows * s.r);
      float* const z_back = own.take(work.block * rows * s.r);
      float* const turned = own.take(s.p * width);
      with_type(dy.dtype, [&](auto tag) {
        using T = LOWRANK_ELEMENT(tag);
        const V factor = set1(scale);
        for (int64_t t = 0; t < count; ++t) {
          const T* from = row_as<T>(dy, begin + t);
          for_vectors(0, m, [&](int64_t i, auto lanes) {
            V value = mul(load(from + i, lanes), factor);
            if (gains != nullptr) value = mul(value, load(gains + i, lanes));
            store(g + t * m + i, value, lanes);
          });
        }
      });
      // `forth` is what the first product of the forward pass gives, `back` the gradient there.
      const float *at_d_in, *at_d_out;
      if (first) {
        for (int64_t t = 0; t < count; ++t)
          small_product(s.l, s.q, s.p, plain(f.c, s.p), in + t * n, forth + t * s.l * s.q, false);
        back_through_d(s, f, all, g, z_back, back);
        if (s.r > 0) small_product(all, s.r, s.q, plain(forth, s.q), f.d2_turned, z_forth, false);
        for (int64_t t = 0; t < count; ++t) {
          transpose_into(s.p, s.q, in + t * n, turned);
          small_product(s.l, s.p, s.q, plain(back + t * s.l * s.q, s.q), turned, dc, true);
        }
        if (dx != nullptr)
          for (int64_t t = 0; t < count; ++t)
            small_product(s.p, s.q, s.l, plain(f.c_turned, s.l), back + t * s.l * s.q, change + t * n, false);
        at_d_in = forth;
        at_d_out = g;
      } else {
        through_d(s, f, all, in, z_forth, forth);
        for (int64_t t = 0; t < count; ++t) {
          small_product(s.p, s.k, s.l, plain(f.c_turned, s.l), g + t * m, back + t * s.p * s.k, false);
          transpose_into(s.p, s.k, forth + t * s.p * s.k, turned);
          small_product(s.l, s.p, s.k, plain(g + t * m, s.k), turned, dc, true);
        }
        if (s.r > 0) small_product(all, s.r, s.k, plain(back, s.k), f.d, z_back, false);
        if (dx != nullptr) {
          if (s.r > 0)
            small_product(all, s.q, s.r, plain(z_back, s.r), f.d2, change, false);
          else
            small_product(all, s.q, s.k, plain(back, s.k), f.d, change, false);
        }
        at_d_in = in;
        at_d_out = back;
      }
      if (s.r > 0) {
        small_product(s.k, s.r, all, transposed(at_d_out, s.k), z_forth, dd, true);
        small_product(s.r, s.q, all, transposed(z_back, s.r), at_d_in, dd2, true);
      } else {
        small_product(s.k, s.q, all, transposed(at_d_out, s.k), at_d_in, dd, true);
      }
      if (dx == nullptr) continue;
      float* const into = dx + begin * n;
      for_vectors(0, count * n, [&](int64_t i, auto lanes) {
        const V value = load(change + i, lanes);
        store(into + i, adds_dx ? add(value, load(into + i, lanes)) : value, lanes);
      });
    }
  });
  add_chunks(pool, s, work, chunks, to);
}
