// Attention in FlashAttention-2 order over the tile products of attention_tiles.inl.
#pragma once

#include "backends/cpu/attention/attention_decode.inl"
#include "backends/cpu/attention/attention_tiles.inl"

/// Position of one sequence in the packed rows; `offset` is the number of keys before the first query's own.
struct Sequence {
  int64_t q0, queries, k0, keys, offset;
};
static Sequence sequence_of(const AttentionShape& shape, int64_t index) {
  const int64_t first = shape.seqlens[index], queries = shape.seqlens[index + 1] - first;
  return {first, queries, first, queries + shape.cached, shape.cached};
}
/// First key that query i of the sequence sees, and the first key of its tile: work begins there.
static int64_t first_key(const AttentionShape& shape, const Sequence& sequence, int64_t i) {
  return std::max<int64_t>(sequence.offset + i + 1 - shape.window, 0);
}
static int64_t first_key_tile(const AttentionShape& shape, const Sequence& sequence, int64_t i) {
  return first_key(shape, sequence, i) / kTile * kTile;
}

/// Number of the keys j0 .. j0 + keys - 1 up to the last one that queries i .. i + count - 1 see.
static int64_t keys_seen(const AttentionShape& shape, const Sequence& sequence, int64_t i, int64_t count, int64_t j0,
                         int64_t keys) {
  const int64_t seen = std::min(keys, sequence.offset + i + count - j0);
  return first_key(shape, sequence, i) < j0 + seen ? std::max<int64_t>(seen, 0) : 0;
}
/// Vectors that hold up to a strip of `lanes` queries.
static int64_t strip_vectors(int64_t lanes) { return (std::min(lanes, kStrip) + W - 1) / W; }

template <class T>
static const T* head_rows(const Matrix& matrix, int64_t row, int64_t head, int64_t head_dim) {
  return row_as<T>(matrix, row) + head * head_dim;
}

/// Sets scores [keys][64] of keys that a query does not see to `kUnseen`. Key j of the tile is seen by `window` lanes
/// from j + first_lane on.
static void mask_scores(float* scores, int64_t keys, int64_t vectors, int64_t first_lane, int64_t window) {
  for (int64_t j = std::max<int64_t>(1 - first_lane, 0); j < keys; ++j) {
    for (int64_t v = 0; v < vectors && v * W < j + first_lane; ++v) {
      float* at = scores + j * kTile + v * W;
      store(at, where(lanes_from(j + first_lane - v * W), load(at), set1(kUnseen)));
    }
  }
  for (int64_t j = 0; j < keys && j + first_lane + window < vectors * W; ++j) {
    const int64_t past = j + first_lane + window;
    for (int64_t v = std::max<int64_t>(past, 0) / W; v < vectors; ++v) {
      float* at = scores + j * kTile + v * W;
      store(at, where(lanes_from(past - v * W), set1(kUnseen), load(at)));
    }
  }
}

/// factor * score - top, and never above 0: `top` is rounded where the product here is not, which for scores of
/// millions would leave room for an exponent that overflows.
static LOWRANK_INLINE V below(V score, V factor, V top) { return min(zero(), fms(score, factor, top)); }

/// Online softmax of one tile: scores become exp2(factor * score - top), `top` and `total` per lane are brought up to
/// date and the sums so far are rescaled. For pairs, the probabilities go to `packed` in words of two keys.
template <class Scheme>
static void soften(float* scores, int64_t keys, int64_t vectors, float factor_value, float* top, float* total,
                   float* sums, int64_t head_dim, [[maybe_unused]] float* packed) {
  const V factor = set1(factor_value);
  for (int64_t v = 0; v < vectors; ++v) {
    float* column = scores + v * W;
    const V before = load(top + v * W);
    V most = set1(kUnseen), other = most;
    int64_t j = 0;
    for (; j + 2 <= keys; j += 2) {
      most = max(most, load(column + j * kTile));
      other = max(other, load(column + (j + 1) * kTile));
    }
    if (j < keys) most = max(most, load(column + j * kTile));
    most = max(before, mul(max(most, other), factor));
    // 0 in place of a maximum over nothing: every exponent is then far below zero
    const V shift = where(not_below(most, set1(kLowest)), most);
    const V decay = exp2(sub(before, shift));
    V sum_even = zero(), sum_odd = zero();
    for (j = 0; j + 2 <= keys; j += 2) {
      const V a = exp2<Scheme::kPairs>(below(load(column + j * kTile), factor, shift));
      const V b = exp2<Scheme::kPairs>(below(load(column + (j + 1) * kTile), factor, shift));
      sum_even = add(sum_even, a);
      sum_odd = add(sum_odd, b);
      if constexpr (Scheme::kPairs) {
        store(packed + j / 2 * kTile + v * W, Scheme::two_keys(a, b));
      } else {
        store(column + j * kTile, a);
        store(column + (j + 1) * kTile, b);
      }
    }
    if (j < keys) {
      const V a = exp2<Scheme::kPairs>(below(load(column + j * kTile), factor, shift));
      sum_even = add(sum_even, a);
      if constexpr (Scheme::kPairs) {
        store(packed + j / 2 * kTile + v * W, Scheme::two_keys(a, zero()));
      } else {
        store(column + j * kTile, a);
      }
    }
    store(top + v * W, most);
    store(total + v * W, fma(load(total + v * W), decay, add(sum_even, sum_odd)));
    if (!all(equal(decay, set1(1.0f)))) {
      for (int64_t c = 0; c < head_dim; ++c)
        store(sums + c * kTile + v * W, mul(load(sums + c * kTile + v * W), decay));
    }
  }
}

/// Turns running sums into the output and the log-sum-exp of a tile of queries.
template <class T>
static void finish_tile(const AttentionShape& shape, const Sequence& sequence, int64_t i0, int64_t count, int64_t head,
                        const float* sums, const float* top, float* total, T* out, int64_t ld, float* lse) {
  for (int64_t i = 0; i < count; ++i) {
    if (lse != nullptr) {
      lse[(sequence.q0 + i0 + i) * shape.heads + head] =
          total[i] == 0.0f ? kMinusInfinity : (top[i] + math::log2(total[i])) / kLog2E;
    }
    total[i] = total[i] == 0.0f ? 0.0f : 1.0f / total[i];
  }
  store_transposed(sums, total, count, shape.head_dim, out, ld);
}

/// One tile of queries of one head against all tiles of keys that any of them sees.
template <class Scheme>
static void forward_tile(const AttentionShape& shape, const Sequence& sequence, int64_t tile, int64_t head,
                         const Attention& of, std::byte* workspace) {
  using T = typename Scheme::Element;
  using Dot = typename Scheme::Dot;
  const int64_t d = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  const int64_t i0 = tile * kTile, count = std::min(kTile, sequence.queries - i0);
  Carver carver{workspace};
  float* queries = carver.take(head_tile_bytes(d));
  float* k_copy = carver.take(head_tile_bytes(d));
  float* v_copy = carver.take(head_tile_bytes(d));
  float* sums = carver.take(head_tile_bytes(d));
  float* scores = carver.take(kScoreTileBytes);
  float* packed = Scheme::kPairs ? carver.take(kScoreTileBytes / 2) : scores;
  float* top = carver.take(kTile * 4);
  float* total = carver.take(kTile * 4);

  Scheme::pack_transposed(head_rows<T>(of.q, sequence.q0 + i0, head, d), of.q.ld, count, d, queries, k_copy);
  std::fill(top, top + kTile, kUnseen);
  std::fill(total, total + kTile, 0.0f);
  std::memset(sums, 0, static_cast<size_t>(d * kTile) * 4);

  const int64_t visible = std::min(sequence.keys, sequence.offset + i0 + count);
  for (int64_t j0 = first_key_tile(shape, sequence, i0); j0 < visible; j0 += kTile) {
    const int64_t keys = std::min(kTile, visible - j0);
    const Broadcast k_tile = Scheme::along(head_rows<T>(of.k, sequence.k0 + j0, kv_head, d), of.k.ld, keys, d, k_copy);
    const Broadcast v_tile = Scheme::across(head_rows<T>(of.v, sequence.k0 + j0, kv_head, d), of.v.ld, keys, d, v_copy);
    for (int64_t lane = 0; lane < count; lane += kStrip) {
      const int64_t seen = keys_seen(shape, sequence, i0 + lane, std::min(lane + kStrip, count) - lane, j0, keys);
      if (seen == 0) continue;
      const int64_t vectors = strip_vectors(count - lane);
      multiply<Dot>(seen, vectors, k_tile, queries + lane, kTile, scores, kTile, false);
      mask_scores(scores, seen, vectors, j0 - sequence.offset - i0 - lane, shape.window);
      soften<Scheme>(scores, seen, vectors, shape.scale * kLog2E, top + lane, total + lane, sums + lane, d, packed);
      const Broadcast v_seen = {v_tile.data, v_tile.row, v_tile.step, Scheme::steps(seen)};
      multiply<Dot>(d, vectors, v_seen, packed, kTile, sums + lane, kTile, true);
    }
  }

  finish_tile(shape, sequence, i0, count, head, sums, top, total, row_as<T>(of.out, sequence.q0 + i0) + head * d,
              of.out.ld, host(of.lse));
}

/// The query tiles of all sequences by number; within a sequence the late ones, which see most keys, come first.
struct QueryTiles {
  explicit QueryTiles(const AttentionShape& attention_shape) : shape(attention_shape) {
    for (int64_t s = 0; s < shape.sequences; ++s) count += of_sequence(s);
  }
  int64_t of_sequence(int64_t s) const { return (shape.seqlens[s + 1] - shape.seqlens[s] + kTile - 1) / kTile; }
  /// Sequence and tile within it.
  std::pair<int64_t, int64_t> at(int64_t number) const {
    int64_t s = 0;
    for (; number >= of_sequence(s); ++s) number -= of_sequence(s);
    return {s, of_sequence(s) - 1 - number};
  }
  const AttentionShape& shape;
  int64_t count = 0;
};

template <class Scheme>
static void forward(const Cpu& cpu, const AttentionShape& shape, const Attention& of) {
  const QueryTiles tiles(shape);
  for_units(cpu.pool, tiles.count * shape.heads, [&](int thread, int64_t unit) {
    const auto [s, tile] = tiles.at(unit / shape.heads);  // heads of a group follow each other on the same keys
    forward_tile<Scheme>(shape, sequence_of(shape, s), tile, unit % shape.heads, of,
                         cpu.room + thread * forward_thread_bytes(shape.head_dim));
  });
}

static void run(const Cpu& cpu, const Attention& k) {
  const AttentionShape shape = shape_of(k);
  if (can_decode(shape)) return k.q.dtype == DType::bf16 ? decode<Bf16>(cpu, shape, k) : decode<float>(cpu, shape, k);
  if (k.q.dtype == DType::f32) return forward<Fp32Scheme<float>>(cpu, shape, k);
#if LOWRANK_VEC_BF16
  if (shape.head_dim % 2 == 0) return forward<PairScheme>(cpu, shape, k);
#endif
  forward<Fp32Scheme<Bf16>>(cpu, shape, k);
}
