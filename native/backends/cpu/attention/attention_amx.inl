// Attention for bf16 operands on AMX tiles: the order of attention.inl and attention_backward.inl, with every product
// made of 16x16 fp32 tiles that take 32 products per step. K and V are broadcast operands as they lie in memory; where
// a product reduces over keys (V in the forward pass, K in the backward pass) their transpose is packed once per call.
// Included in ops_avx512bf16.cpp after the other attention sources, in a namespace whose kernels come before theirs.

/// Tile operand A: 16 rows of 32 bf16 values at data + block * block_bytes + step * step_bytes, rows row_bytes apart.
struct TileRows {
  const std::byte* data;
  int64_t row_bytes, block_bytes, step_bytes;
};

/// Gives the thread its tile shapes, all 16 rows of 64 bytes, for as long as it lives.
struct TileRegion {
  TileRegion() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    for (int tile = 0; tile < 8; ++tile) {
      shapes.row_bytes[tile] = 64;
      shapes.rows[tile] = 16;
    }
    asm volatile("" : : "r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
  }
  ~TileRegion() { _tile_release(); }
};

/// c (+)= a b for kBlocks x kLanes tiles; b holds words of two values [step * 16 rows][16 lanes per tile].
template <int kBlocks, int kLanes>
static void tile_block(int64_t steps, const TileRows& a, const float* b, int64_t b_row, float* c, int64_t c_row,
                       bool accumulate) {
  const int64_t b_bytes = b_row * 4, c_bytes = c_row * 4;
  asm volatile("" ::: "memory");  // the tile intrinsics do not tell the compiler what they read and write
  if (accumulate) {
    _tile_loadd(0, c, c_bytes);
    if constexpr (kLanes == 2) _tile_loadd(1, c + 16, c_bytes);
    if constexpr (kBlocks == 2) _tile_loadd(2, c + 16 * c_row, c_bytes);
    if constexpr (kBlocks == 2 && kLanes == 2) _tile_loadd(3, c + 16 * c_row + 16, c_bytes);
  } else {
    _tile_zero(0);
    if constexpr (kLanes == 2) _tile_zero(1);
    if constexpr (kBlocks == 2) _tile_zero(2);
    if constexpr (kBlocks == 2 && kLanes == 2) _tile_zero(3);
  }
  const std::byte* rows = a.data;
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(6, b, b_bytes);
    _tile_loadd(4, rows, a.row_bytes);
    if constexpr (kLanes == 2) _tile_loadd(7, b + 16, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kLanes == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kBlocks == 2) {
      _tile_loadd(5, rows + a.block_bytes, a.row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kLanes == 2) _tile_dpbf16ps(3, 5, 7);
    }
    rows += a.step_bytes;
    b += 16 * b_row;
  }
  _tile_stored(0, c, c_bytes);
  if constexpr (kLanes == 2) _tile_stored(1, c + 16, c_bytes);
  if constexpr (kBlocks == 2) _tile_stored(2, c + 16 * c_row, c_bytes);
  if constexpr (kBlocks == 2 && kLanes == 2) _tile_stored(3, c + 16 * c_row + 16, c_bytes);
  asm volatile("" ::: "memory");
}

/// c[16 blocks][lanes] (+)= a b, with `lanes` a multiple of 16 and 32 `steps` products per element.
static void tile_multiply(int64_t blocks, int64_t lanes, int64_t steps, const TileRows& a, const float* b,
                          int64_t b_row, float* c, int64_t c_row, bool accumulate) {
  for (int64_t n = 0; n < lanes; n += 32) {
    const bool both = lanes - n >= 32;
    for (int64_t block = 0; block < blocks; block += 2) {
      const TileRows part = {a.data + block * a.block_bytes, a.row_bytes, a.block_bytes, a.step_bytes};
      float* to = c + block * 16 * c_row + n;
      const auto multiply = blocks - block >= 2 ? (both ? tile_block<2, 2> : tile_block<2, 1>)
                                                : (both ? tile_block<1, 2> : tile_block<1, 1>);
      multiply(steps, part, b + n, b_row, to, c_row, accumulate);
    }
  }
}

// ---- the packed transpose: per 32 keys one block [head_dim][32 keys], zeros after the last key

inline constexpr int64_t kKeyBlock = 32;

/// Sequences of a single key tile are transposed where they are used, longer ones once for all tiles and heads. Their
/// first block follows from their first key: at more than 64 keys, 3/64 blocks per key hold every partial last block.
static bool packs_transpose(const Sequence& sequence) { return sequence.keys > kTile; }
static int64_t first_key_block(const Sequence& sequence) { return (sequence.k0 * 3 + 63) / 64; }

/// out[c][key] for one block of at most 32 keys.
static void transpose_keys(const Bf16* rows, int64_t ld, int64_t keys, int64_t head_dim, Bf16* out) {
  auto* words = reinterpret_cast<float*>(out);  // [head_dim][16 pairs of keys]
  for (int64_t c = 0; c < head_dim; c += W) {
    V block[W];
    for (int64_t i = 0; i < W; ++i) {
      const Bf16* low = rows + 2 * i * ld + c;
      block[i] = 2 * i < keys ? pairs(low, 2 * i + 1 < keys ? low + ld : nullptr, W) : zero();
    }
    transpose(block);
    for (int64_t i = 0; i < W; ++i) store(words + (c + i) * W, block[i]);
  }
}

/// Asks for the cache lines of a tile that is needed a few microseconds later.
static LOWRANK_INLINE void prefetch(const std::byte* data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) _mm_prefetch(reinterpret_cast<const char*>(data + at), _MM_HINT_T0);
}
static void prefetch_rows(const Bf16* rows, int64_t ld, int64_t count, int64_t head_dim) {
  for (int64_t r = 0; r < count; ++r) prefetch(reinterpret_cast<const std::byte*>(rows + r * ld), head_dim * 2);
}

static void transpose_sequences(Pool& pool, const AttentionShape& shape, const Matrix& x, int64_t total_blocks,
                                Bf16* packed) {
  const int64_t d = shape.head_dim, heads = int64_t{shape.sequences} * shape.kv_heads;
  // Few heads are cut into parts, so that no thread waits for another's whole one.
  const int64_t parts = (4 * pool.threads() + heads - 1) / heads;
  for_units(pool, heads * parts, [&](int, int64_t unit) {
    const int64_t head = unit / parts, part = unit % parts;
    const Sequence sequence = sequence_of(shape, head / shape.kv_heads);
    const int64_t kv_head = head % shape.kv_heads;
    if (!packs_transpose(sequence)) return;
    const int64_t first = first_key_tile(shape, sequence, 0) / kKeyBlock;
    const int64_t blocks = (sequence.keys + kKeyBlock - 1) / kKeyBlock - first;
    for (int64_t block = first + blocks * part / parts; block < first + blocks * (part + 1) / parts; ++block) {
      const int64_t key = block * kKeyBlock, keys = std::min(kKeyBlock, sequence.keys - key);
      const Bf16* rows = head_rows<Bf16>(x, sequence.k0 + key, kv_head, d);
      const int64_t next = std::clamp<int64_t>(sequence.keys - key - kKeyBlock, 0, kKeyBlock);
      prefetch_rows(rows + kKeyBlock * x.ld, x.ld, next, d);
      const int64_t at = kv_head * total_blocks + first_key_block(sequence) + block;
      transpose_keys(rows, x.ld, keys, d, packed + at * kKeyBlock * d);
    }
  });
}

/// The packed transposes of a call: how to find the block that holds a key.
struct Transposed {
  const Bf16* packed;
  int64_t total_blocks;

  /// Tile operand of the tile that starts at key j0; short sequences are transposed into `scratch` first.
  TileRows tile(const AttentionShape& shape, const Sequence& sequence, const Matrix& x, int64_t kv_head, int64_t j0,
                Bf16* scratch) const {
    const int64_t d = shape.head_dim;
    const Bf16* at = scratch;
    if (packs_transpose(sequence)) {
      at = packed + (kv_head * total_blocks + first_key_block(sequence) + j0 / kKeyBlock) * kKeyBlock * d;
    } else {
      for (int64_t key = 0; key < sequence.keys; key += kKeyBlock) {
        transpose_keys(head_rows<Bf16>(x, sequence.k0 + key, kv_head, d), x.ld,
                       std::min(kKeyBlock, sequence.keys - key), d, scratch + key * d);
      }
    }
    return {reinterpret_cast<const std::byte*>(at), 64, 16 * 64, d * 64};
  }
};

static int64_t key_blocks(const AttentionShape& shape) { return (shape.keys * 3 + 63) / 64; }

/// Rows of K or V as tile operand; whole tiles are read, so the last rows of the tensor are copied to `scratch`.
static TileRows tile_rows(const AttentionShape& shape, const Matrix& x, int64_t row, int64_t head, int64_t keys,
                          Bf16* scratch) {
  const int64_t d = shape.head_dim;
  const Bf16* rows = head_rows<Bf16>(x, row, head, d);
  int64_t ld = x.ld;
  if (row + round_up(keys, 16) > shape.keys) {
    for (int64_t j = 0; j < round_up(keys, 16); ++j) {
      if (j < keys) {
        std::memcpy(scratch + j * d, rows + j * ld, static_cast<size_t>(d) * 2);
      } else {
        std::memset(scratch + j * d, 0, static_cast<size_t>(d) * 2);
      }
    }
    rows = scratch;
    ld = d;
  }
  return {reinterpret_cast<const std::byte*>(rows), ld * 2, 16 * ld * 2, 64};
}

/// Zeros rows [from, to) of a row-major buffer.
static void clear_rows(void* buffer, int64_t row_bytes, int64_t from, int64_t to) {
  if (from < to)
    std::memset(static_cast<std::byte*>(buffer) + from * row_bytes, 0, static_cast<size_t>((to - from) * row_bytes));
}

/// Heads of one group whose queries fill the lanes of one tile together, so that their keys and values are read once.
/// Every lane is computed as alone. Queries are packed in whole vectors, of which the last must end within the tile.
static int64_t heads_per_tile(const AttentionShape& shape, int64_t tiles, int threads) {
  int64_t longest = 1;
  for (int64_t s = 0; s < shape.sequences; ++s)
    longest = std::max<int64_t>(longest, shape.seqlens[s + 1] - shape.seqlens[s]);
  for (int64_t heads = shape.heads / shape.kv_heads; heads > 1; --heads) {
    if (shape.heads / shape.kv_heads % heads != 0 || heads * longest > kTile - W) continue;
    if (tiles * shape.heads / heads >= threads) return heads;
  }
  return 1;
}

/// As `mask_scores` for half a tile of lanes from `lane` on, of which each of `heads` has `count`.
static void mask_heads(float* scores, int64_t keys, int64_t heads, int64_t count, int64_t lane, int64_t first_lane,
                       int64_t window) {
  const auto mask = [&](int64_t j, int64_t begin, int64_t end) {
    for (int64_t at = -lane; at < heads * count - lane; at += count) {
      const int64_t to = std::min<int64_t>(at + end, 32);
      for (int64_t i = std::max<int64_t>(at + begin, 0); i < to; ++i) scores[j * kTile + i] = kUnseen;
    }
  };
  for (int64_t j = std::max<int64_t>(1 - first_lane, 0); j < keys; ++j) mask(j, 0, std::min(j + first_lane, count));
  for (int64_t j = 0; j < keys && j + first_lane + window < count; ++j)
    mask(j, std::max<int64_t>(j + first_lane + window, 0), count);
}

/// A tile of queries of `heads` heads from `head` on.
static void amx_forward_tile(const AttentionShape& shape, const Sequence& sequence, int64_t tile, int64_t head,
                             int64_t heads, const Attention& of, const Transposed& v_transposed, std::byte* workspace) {
  const int64_t d = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  const int64_t i0 = tile * kTile, count = std::min(kTile, sequence.queries - i0), filled = heads * count;
  Carver carver{workspace};
  float* queries = carver.take(head_tile_bytes(d) / 2);
  auto* k_copy = reinterpret_cast<Bf16*>(carver.take(head_tile_bytes(d) / 2));
  auto* v_copy = reinterpret_cast<Bf16*>(carver.take(head_tile_bytes(d) / 2));
  float* sums = carver.take(head_tile_bytes(d));
  float* scores = carver.take(kScoreTileBytes);
  float* top = carver.take(kTile * 4);
  float* total = carver.take(kTile * 4);

  if (filled < kTile) std::memset(queries, 0, static_cast<size_t>(head_tile_bytes(d) / 2));
  for (int64_t h = 0; h < heads; ++h)
    transpose_words(head_rows<Bf16>(of.q, sequence.q0 + i0, head + h, d), of.q.ld * 2, count, d / 2,
                    queries + h * count);
  std::fill(top, top + kTile, kUnseen);
  std::fill(total, total + kTile, 0.0f);
  std::memset(sums, 0, static_cast<size_t>(d * kTile) * 4);

  const int64_t visible = std::min(sequence.keys, sequence.offset + i0 + count);
  for (int64_t j0 = first_key_tile(shape, sequence, i0); j0 < visible; j0 += kTile) {
    const int64_t keys = std::min(kTile, visible - j0), first_lane = j0 - sequence.offset - i0;
    const TileRows k_tile = tile_rows(shape, of.k, sequence.k0 + j0, kv_head, keys, k_copy);
    const TileRows v_tile = v_transposed.tile(shape, sequence, of.v, kv_head, j0, v_copy);
    prefetch(v_tile.data, round_up(keys, 32) / 32 * d * 64);
    prefetch_rows(head_rows<Bf16>(of.k, sequence.k0 + j0 + kTile, kv_head, d), of.k.ld,
                  std::clamp<int64_t>(visible - j0 - kTile, 0, kTile), d);
    // half a tile of queries at a time: scores, then probabilities over them, stay in L1 with both operands
    for (int64_t lane = 0; lane < filled; lane += 32) {
      const int64_t first = heads > 1 ? 0 : lane, end = heads > 1 ? count : std::min(lane + 32, count);
      const int64_t seen = keys_seen(shape, sequence, i0 + first, end - first, j0, keys);
      if (seen == 0) continue;
      const int64_t steps = round_up(seen, 32) / 32, lanes = std::min<int64_t>(round_up(filled - lane, W), 32);
      tile_multiply(round_up(seen, 16) / 16, lanes, d / 32, k_tile, queries + lane, kTile, scores, kTile, false);
      if (heads > 1) {
        mask_heads(scores, seen, heads, count, lane, first_lane, shape.window);
      } else {
        mask_scores(scores, seen, lanes / W, first_lane - lane, shape.window);
      }
      soften<PairScheme>(scores, seen, lanes / W, shape.scale * kLog2E, top + lane, total + lane, sums + lane, d,
                         scores);
      clear_rows(scores, kTile * 4, (seen + 1) / 2, steps * 16);
      tile_multiply(d / 16, lanes, steps, v_tile, scores, kTile, sums + lane, kTile, true);
    }
  }
  for (int64_t h = 0; h < heads; ++h)
    finish_tile(shape, sequence, i0, count, head + h, sums + h * count, top + h * count, total + h * count,
                row_as<Bf16>(of.out, sequence.q0 + i0) + (head + h) * d, of.out.ld, host(of.lse));
}

/// One query head of one sequence, as backward_head.
static void amx_backward_head(const AttentionShape& shape, const Sequence& sequence, int64_t head,
                              const AttentionBackward& of, const Transposed& k_transposed, float* dk, float* dv,
                              std::byte* workspace) {
  const int64_t d = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  Carver carver{workspace};
  const int64_t half = head_tile_bytes(d) / 2;
  float* queries = carver.take(half);        // Q^T
  float* gradients = carver.take(half);      // dO^T
  float* query_rows = carver.take(half);     // Q
  float* gradient_rows = carver.take(half);  // dO
  auto* k_copy = reinterpret_cast<Bf16*>(carver.take(half));
  auto* v_copy = reinterpret_cast<Bf16*>(carver.take(half));
  auto* k_columns = reinterpret_cast<Bf16*>(carver.take(half));
  float* dq_sums = carver.take(2 * half);
  float* ragged = carver.take(2 * half);
  float* scores = carver.take(kScoreTileBytes);
  float* slopes = carver.take(kScoreTileBytes);
  auto* p_rows = reinterpret_cast<Bf16*>(carver.take(kScoreTileBytes / 2));
  auto* ds_rows = reinterpret_cast<Bf16*>(carver.take(kScoreTileBytes / 2));
  float* ds_pairs = carver.take(kScoreTileBytes / 2);
  float* lse2 = carver.take(kTile * 4);
  float* delta = carver.take(kTile * 4);
  float* ones = carver.take(kTile * 4);
  std::fill(ones, ones + kTile, 1.0f);
  std::memset(dk, 0, static_cast<size_t>(sequence.keys * d) * 4);
  std::memset(dv, 0, static_cast<size_t>(sequence.keys * d) * 4);

  for (int64_t i0 = 0; i0 < sequence.queries; i0 += kTile) {
    const int64_t count = std::min(kTile, sequence.queries - i0), lanes = round_up(count, 32), row = sequence.q0 + i0;
    const Bf16* q_rows = head_rows<Bf16>(of.q, row, head, d);
    const Bf16* dout_rows = head_rows<Bf16>(of.dout, row, head, d);
    if (count < kTile) {
      for (float* buffer : {queries, gradients, query_rows, gradient_rows})
        std::memset(buffer, 0, static_cast<size_t>(half));
    }
    transpose_words(q_rows, of.q.ld * 2, count, d / 2, queries);
    transpose_words(dout_rows, of.dout.ld * 2, count, d / 2, gradients);
    PairScheme::pack_rows(q_rows, of.q.ld, count, d, query_rows);
    PairScheme::pack_rows(dout_rows, of.dout.ld, count, d, gradient_rows);
    row_statistics(head_rows<Bf16>(of.out, row, head, d), of.out.ld, dout_rows, of.dout.ld,
                   host(of.lse) + row * shape.heads + head, shape.heads, count, d, lse2, delta);
    std::memset(dq_sums, 0, static_cast<size_t>(d * kTile) * 4);

    const int64_t visible = std::min(sequence.keys, sequence.offset + i0 + count);
    for (int64_t j0 = first_key_tile(shape, sequence, i0); j0 < visible; j0 += kTile) {
      const int64_t keys = std::min(kTile, visible - j0), blocks = round_up(keys, 16) / 16,
                    steps = round_up(keys, 32) / 32;
      const int64_t key = sequence.k0 + j0;
      const TileRows k_tile = tile_rows(shape, of.k, key, kv_head, keys, k_copy);
      const TileRows v_tile = tile_rows(shape, of.v, key, kv_head, keys, v_copy);
      const TileRows k_columns_tile = k_transposed.tile(shape, sequence, of.k, kv_head, j0, k_columns);
      prefetch(k_columns_tile.data, steps * d * 64);
      for (int64_t lane = 0; lane < lanes; lane += 32) {  // half a tile of queries at a time stays in L1
        tile_multiply(blocks, 32, d / 32, k_tile, queries + lane, kTile, scores, kTile, false);
        tile_multiply(blocks, 32, d / 32, v_tile, gradients + lane, kTile, slopes, kTile, false);
        differentiate<PairScheme>(scores, slopes, keys, 32 / W, j0 - sequence.offset - i0 - lane, shape.window,
                                  shape.scale, lse2 + lane, delta + lane, p_rows + lane, ds_rows + lane,
                                  ds_pairs + lane);
      }
      clear_rows(p_rows, kTile * 2, keys, blocks * 16);
      clear_rows(ds_rows, kTile * 2, keys, blocks * 16);
      clear_rows(ds_pairs, kTile * 4, (keys + 1) / 2, steps * 16);
      // Tiles write whole blocks of rows: where those leave the sequence, the products go through a buffer.
      const bool whole = j0 + blocks * 16 <= sequence.keys;
      const auto reduce_queries = [&](const Bf16* rows, const float* packed, float* to) {
        const TileRows a = {reinterpret_cast<const std::byte*>(rows), kTile * 2, 16 * kTile * 2, 64};
        tile_multiply(blocks, d, lanes / 32, a, packed, d, whole ? to : ragged, d, whole);
        for (int64_t at = 0; !whole && at < keys * d; at += W) store(to + at, add(load(to + at), load(ragged + at)));
      };
      reduce_queries(p_rows, gradient_rows, dv + j0 * d);
      reduce_queries(ds_rows, query_rows, dk + j0 * d);
      tile_multiply(d / 16, lanes, steps, k_columns_tile, ds_pairs, kTile, dq_sums, kTile, true);
    }
    store_transposed(dq_sums, ones, count, d, row_as<Bf16>(of.dq, row) + head * d, of.dq.ld);
  }
}

static bool fits_tiles(const AttentionShape& shape, DType dtype) {
  return dtype == DType::bf16 && shape.head_dim % 32 == 0;
}

static void run(const Cpu& cpu, const Attention& k) {
  const AttentionShape shape = shape_of(k);
  if (can_decode(shape) || k.q.dtype == DType::f32) return avx512bf16::run(cpu, k);
  // CPUs with AMX multiply fp32 vectors faster than vectors of bf16 pairs.
  if (!fits_tiles(shape, k.q.dtype)) return forward<Fp32Scheme<Bf16>>(cpu, shape, k);
  auto* packed = reinterpret_cast<Bf16*>(cpu.room + cpu.pool.threads() * forward_thread_bytes(shape.head_dim));
  const Transposed v_transposed{packed, key_blocks(shape)};
  transpose_sequences(cpu.pool, shape, k.v, v_transposed.total_blocks, packed);
  const QueryTiles tiles(shape);
  const int64_t heads = heads_per_tile(shape, tiles.count, cpu.pool.threads()), packs = shape.heads / heads;
  for_units(
      cpu.pool, tiles.count * packs,
      [&](int thread, int64_t unit) {
        const auto [s, tile] = tiles.at(unit / packs);
        amx_forward_tile(shape, sequence_of(shape, s), tile, unit % packs * heads, heads, k, v_transposed,
                         cpu.room + thread * forward_thread_bytes(shape.head_dim));
      },
      [] { return TileRegion(); });
}

static void run(const Cpu& cpu, const AttentionBackward& k) {
  const AttentionShape shape = shape_of(k);
  if (k.q.dtype == DType::f32) return avx512bf16::run(cpu, k);
  if (!fits_tiles(shape, k.q.dtype)) return backward<Fp32Scheme<Bf16>>(cpu, shape, k);
  const int64_t d = shape.head_dim, rows = shape.keys;
  auto* dk_parts = reinterpret_cast<float*>(cpu.room + cpu.pool.threads() * backward_thread_bytes(d));
  float* dv_parts = dk_parts + rows * shape.heads * d;
  auto* packed = reinterpret_cast<Bf16*>(dv_parts + rows * shape.heads * d);
  const Transposed k_transposed{packed, key_blocks(shape)};
  transpose_sequences(cpu.pool, shape, k.k, k_transposed.total_blocks, packed);
  for_units(
      cpu.pool, int64_t{shape.sequences} * shape.heads,
      [&](int thread, int64_t unit) {
        const Sequence sequence = sequence_of(shape, unit / shape.heads);
        const int64_t head = unit % shape.heads, at = (head * rows + sequence.k0) * d;
        amx_backward_head(shape, sequence, head, k, k_transposed, dk_parts + at, dv_parts + at,
                          cpu.room + thread * backward_thread_bytes(d));
      },
      [] { return TileRegion(); });
  sum_groups<Bf16>(cpu.pool, shape, rows, dk_parts, k.dk);
  sum_groups<Bf16>(cpu.pool, shape, rows, dv_parts, k.dv);
}
