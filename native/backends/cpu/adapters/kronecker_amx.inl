// Products with a Kronecker product for bf16 operands on AMX tiles, D first: a token is a matrix X [p, q], its output
// C X D^T [l, k]. Every side is filled up with zeros to whole tiles, and D stands whole where it is a product of two:
// here multiplications cost less than what is moved between them. Included in ops_avx512bf16.cpp after
// attention_amx.inl, whose tile products it uses: rows of bf16 on the left, words of two rows on the right.

/// Rows of bf16 values as the left operand of tile products.
static TileRows tile_operand(const Bf16* rows, int64_t ld) {
  return {reinterpret_cast<const std::byte*>(rows), ld * 2, 16 * ld * 2, 64};
}
static int64_t tile_blocks(int64_t rows) { return (rows + 15) / 16; }

/// Word [i, j] of `out` [rows / 2, cols] holds elements [2 i, j] and [2 i + 1, j].
static void pair_rows(const Bf16* in, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < rows; i += 2)
    for (int64_t j = 0; j < cols; j += W)
      store(out + i / 2 * cols + j, pairs(in + i * cols + j, in + (i + 1) * cols + j, W));
}
/// The same of rows of fp32, which are rounded.
static void pair_rows(const float* in, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < rows; i += 2)
    for (int64_t j = 0; j < cols; j += W)
      store(out + i / 2 * cols + j, pairs(round_both(load(in + i * cols + j), load(in + (i + 1) * cols + j))));
}
/// out[cols, rows] of words [rows, cols], both whole vectors: of rows of bf16 values the words of their transpose, and
/// the other way round.
static void transpose_square_words(const float* in, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < rows; i += W)
    for (int64_t j = 0; j < cols; j += W) {
      V square[W];
      for (int64_t v = 0; v < W; ++v) square[v] = load(in + (i + v) * cols + j);
      transpose(square);
      for (int64_t v = 0; v < W; ++v) store(out + (j + v) * rows + i, square[v]);
    }
}
static float* words(Bf16* rows) { return reinterpret_cast<float*>(rows); }

/// The factors as tile operands, made once a call.
struct TileFactors {
  Bf16 *c, *c_turned;          // [l, p], [p, l]
  float *d_turned, *d;         // words of D^T [q, k] and of D [k, q]
  float* d2_turned = nullptr;  // [q, r] in fp32, where D is a product of two

  TileFactors(const KroneckerPair& pair, const KroneckerTiles& t, Room& room) {
    const KroneckerShape& s = pair.shape;
    const auto take = [&](int64_t elements) {
      float* const taken = room.take(elements / 2);
      std::memset(taken, 0, static_cast<size_t>(elements) * 2);
      return reinterpret_cast<Bf16*>(taken);
    };
    c = take(t.l * t.p);
    c_turned = take(t.p * t.l);
    Bf16* const turned = take(t.q * t.k);
    Bf16* const plain_d = take(t.k * t.q);
    const auto round_to = [](Bf16* to, float value) { *to = Bf16{bf16_from_f32(value)}; };
    for (int64_t i = 0; i < s.l; ++i)
      for (int64_t a = 0; a < s.p; ++a) {
        round_to(c + i * t.p + a, host(pair.c)[i * s.p + a]);
        round_to(c_turned + a * t.l + i, host(pair.c)[i * s.p + a]);
      }
    const float* whole = host(pair.d);
    if (s.r > 0) {
      float* const product = room.take(s.k * s.q);
      small_product(s.k, s.q, s.r, plain(whole, s.r), host(pair.d2), product, false);
      whole = product;
      d2_turned = room.take(s.q * s.r);
      transpose_into(s.r, s.q, host(pair.d2), d2_turned);
    }
    for (int64_t j = 0; j < s.k; ++j)
      for (int64_t b = 0; b < s.q; ++b) {
        round_to(turned + (b / 2 * t.k + j) * 2 + b % 2, whole[j * s.q + b]);
        round_to(plain_d + (j / 2 * t.q + b) * 2 + j % 2, whole[j * s.q + b]);
      }
    d_turned = words(turned);
    d = words(plain_d);
  }
};

/// A thread's room, cleared once a call: what lies past the sides stays zero, because nothing but zeros is written
/// there.
struct TileRoom {
  Bf16 *x, *z, *g, *turned;  // [p, q], [p, k], [l, k], [k, p]
  float *x_words, *z_words, *g_words, *turned_words;
  float* product;  // of any two
  float *dc, *dd;  // [l, p], [k, q]

  TileRoom(const KroneckerTiles& t, float* at) {
    Room room{at};
    const auto halves = [&](int64_t elements) { return reinterpret_cast<Bf16*>(room.take(elements / 2)); };
    x = halves(t.p * t.q);
    z = halves(t.p * t.k);
    g = halves(t.l * t.k);
    turned = halves(t.k * t.p);
    x_words = room.take(t.p * t.q / 2);
    z_words = room.take(t.p * t.k / 2);
    g_words = room.take(t.l * t.k / 2);
    turned_words = room.take(t.k * t.p / 2);
    product = room.take(t.largest());
    dc = room.take(t.l * t.p);
    dd = room.take(t.k * t.q);
  }
};

static void clear_rooms(Pool& pool, const KroneckerTiles& t, float* threads) {
  pool.run(
      [&](int thread, int) { std::memset(threads + thread * t.per_thread, 0, static_cast<size_t>(t.per_thread) * 4); });
}

/// A token's row as a matrix [rows, cols] with room on the right.
static void place_rows(const Bf16* from, int64_t rows, int64_t cols, Bf16* out, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; j += 2 * W) {
      const __mmask32 lanes = cols - j >= 2 * W ? ~__mmask32{0} : (__mmask32{1} << (cols - j)) - 1;
      _mm512_storeu_si512(out + i * ld + j, _mm512_maskz_loadu_epi16(lanes, from + i * cols + j));
    }
}
static void round_rows(const float* in, int64_t rows, int64_t cols, Bf16* out) {
  for (int64_t i = 0; i < rows * cols; i += 2 * W)
    store_both(out + i, out + i + W, round_both(load(in + i), load(in + i + W)));
}

/// Z = X D^T, [p, k], in `product`.
static void tiles_through_d(const KroneckerShape& s, const KroneckerTiles& t, const TileFactors& f, TileRoom& room) {
  tile_multiply(tile_blocks(s.p), t.k, t.q / 32, tile_operand(room.x, t.q), f.d_turned, t.k, room.product, t.k, false);
}

static void run(const Cpu& cpu, const Kronecker& k) {
  const KroneckerShape& s = k.pair.shape;
  if (k.x.dtype != DType::bf16 || !cpu::fits_tiles(s)) return avx512bf16::run(cpu, k);
  const float *gains = host(k.gains), *residual = host(k.residual);
  constexpr int64_t kTokens = 16;
  const KroneckerTiles t = kronecker_tiles(s);
  Room shared{reinterpret_cast<float*>(cpu.room)};
  const TileFactors f(k.pair, t, shared);
  float* const threads = reinterpret_cast<float*>(cpu.room) + t.shared;
  clear_rooms(cpu.pool, t, threads);
  for_units(
      cpu.pool, (k.tokens + kTokens - 1) / kTokens,
      [&](int thread, int64_t unit) {
        TileRoom room(t, threads + thread * t.per_thread);
        const V factor = set1(k.scale);
        for (int64_t token = unit * kTokens; token < std::min(k.tokens, (unit + 1) * kTokens); ++token) {
          place_rows(row_as<Bf16>(k.x, token), s.p, s.q, room.x, t.q);
          tiles_through_d(s, t, f, room);
          pair_rows(room.product, 16 * tile_blocks(s.p), t.k, room.z_words);
          tile_multiply(tile_blocks(s.l), t.k, t.p / 32, tile_operand(f.c, t.p), room.z_words, t.k, room.product, t.k,
                        false);
          for (int64_t i = 0; i < s.l; ++i) {
            const int64_t at = token * s.out() + i * s.k;
            for_vectors(0, s.k, [&](int64_t j, auto lanes) {
              V value = mul(load(room.product + i * t.k + j, lanes), factor);
              if (gains != nullptr) value = mul(value, load(gains + i * s.k + j, lanes));
              if (residual != nullptr) value = add(value, load(residual + at + j, lanes));
              store(host(k.out) + at + j, value, lanes);
            });
          }
        }
      },
      [] { return TileRegion(); });
}

static void run(const Cpu& cpu, const KroneckerBackward& k) {
  const KroneckerShape& s = k.pair.shape;
  if (k.x.dtype != DType::bf16 || !cpu::fits_tiles(s)) return avx512bf16::run(cpu, k);
  const float* const gains = host(k.gains);
  float* const dx = host(k.dx);
  const KroneckerWork work = kronecker_work(s, k.tokens);
  const KroneckerTiles t = kronecker_tiles(s);
  Room shared{reinterpret_cast<float*>(cpu.room)};
  const TileFactors f(k.pair, t, shared);
  float* const threads = reinterpret_cast<float*>(cpu.room) + t.shared;
  clear_rooms(cpu.pool, t, threads);
  float* const chunks = threads + cpu.pool.threads() * t.per_thread;
  const int64_t p_blocks = tile_blocks(s.p);
  for_units(
      cpu.pool, work.chunks,
      [&](int thread, int64_t chunk) {
        TileRoom room(t, threads + thread * t.per_thread);
        std::memset(room.dc, 0, static_cast<size_t>(t.l * t.p) * 4);
        std::memset(room.dd, 0, static_cast<size_t>(t.k * t.q) * 4);
        const V factor = set1(k.scale);
        const int64_t last = std::min(k.tokens, (chunk + 1) * work.chunk_tokens);
        for (int64_t token = chunk * work.chunk_tokens; token < last; ++token) {
          place_rows(row_as<Bf16>(k.x, token), s.p, s.q, room.x, t.q);
          with_type(k.dy.dtype, [&](auto tag) {
            using T = std::remove_pointer_t<decltype(tag)>;
            for (int64_t i = 0; i < s.l; ++i) {
              const T* const from = row_as<T>(k.dy, token) + i * s.k;
              for_vectors(0, s.k, [&](int64_t j, auto lanes) {
                V value = mul(load(from + j, lanes), factor);
                if (gains != nullptr) value = mul(value, load(gains + i * s.k + j, lanes));
                store(room.g + i * t.k + j, value, lanes);
              });
            }
          });
          // dC += G Z^T
          tiles_through_d(s, t, f, room);
          round_rows(room.product, 16 * p_blocks, t.k, room.z);
          transpose_square_words(words(room.z), t.p, t.k / 2, room.z_words);
          tile_multiply(tile_blocks(s.l), t.p, t.k / 32, tile_operand(room.g, t.k), room.z_words, t.p, room.dc, t.p,
                        true);
          // The gradient at Z, C^T G, takes its place; the words of its transpose are rows of the transpose.
          pair_rows(room.g, t.l, t.k, room.g_words);
          tile_multiply(p_blocks, t.k, t.l / 32, tile_operand(f.c_turned, t.l), room.g_words, t.k, room.product, t.k,
                        false);
          round_rows(room.product, 16 * p_blocks, t.k, room.z);
          // dD += (gradient at Z)^T X
          pair_rows(room.product, 16 * p_blocks, t.k, room.turned_words);
          transpose_square_words(room.turned_words, t.p / 2, t.k, words(room.turned));
          pair_rows(room.x, t.p, t.q, room.x_words);
          tile_multiply(tile_blocks(s.k), t.q, t.p / 32, tile_operand(room.turned, t.p), room.x_words, t.q, room.dd,
                        t.q, true);
          if (dx == nullptr) continue;
          tile_multiply(p_blocks, t.q, t.k / 32, tile_operand(room.z, t.k), f.d, t.q, room.product, t.q, false);
          for (int64_t a = 0; a < s.p; ++a) {
            float* const into = dx + token * s.in() + a * s.q;
            for_vectors(0, s.q, [&](int64_t b, auto lanes) {
              const V value = load(room.product + a * t.q + b, lanes);
              store(into + b, k.adds_dx ? add(value, load(into + b, lanes)) : value, lanes);
            });
          }
        }
        Room sums{chunks + chunk * work.per_chunk};
        float* const dc = sums.take(s.l * s.p);
        float* const dd = sums.take(s.d_elements());
        float* const dd2 = sums.take(s.d2_elements());
        for (int64_t i = 0; i < s.l; ++i) convert_row(room.dc + i * t.p, dc + i * s.p, s.p);
        float* const whole = s.r > 0 ? room.product : dd;
        for (int64_t j = 0; j < s.k; ++j) convert_row(room.dd + j * t.q, whole + j * s.q, s.q);
        if (s.r == 0) return;
        small_product(s.k, s.r, s.q, plain(whole, s.q), f.d2_turned, dd, false);
        small_product(s.r, s.q, s.k, transposed(host(k.pair.d), s.r), whole, dd2, false);
      },
      [] { return TileRegion(); });
  add_chunks(cpu.pool, k, work, chunks);
}
