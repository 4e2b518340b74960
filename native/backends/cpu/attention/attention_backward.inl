// Gradients of attention: query tiles outside, key tiles inside, scores recomputed from the stored log-sum-exp. A unit
// is one query head of one sequence, so that dQ, dK and dV of a unit have one writer; dK and dV are kept per query head
// in fp32 and summed over each group at the end, in order. No result depends on the number of threads.
#pragma once

#include "backends/cpu/attention/attention.inl"

/// The softmax's own gradient for one tile: scores (S^T) and slopes (dP^T), both [keys][64], become P^T and dS^T. For
/// pairs they go to bf16 rows [keys][64], and dS^T to words of two keys as well.
template <class Scheme>
static void differentiate(float* scores, float* slopes, int64_t keys, int64_t vectors, int64_t first_lane,
                          int64_t window, float scale, const float* lse, const float* delta,
                          [[maybe_unused]] Bf16* p_rows, [[maybe_unused]] Bf16* ds_rows,
                          [[maybe_unused]] float* ds_pairs) {
  const V factor = set1(scale * kLog2E), scale_vector = set1(scale);
  for (int64_t v = 0; v < vectors; ++v) {
    const V log_sum = load(lse + v * W), mean = load(delta + v * W);
    const auto probability = [&](int64_t j) LOWRANK_INLINE_LAMBDA {
      V p = exp2<Scheme::kPairs>(below(load(scores + j * kTile + v * W), factor, log_sum));
      const int64_t seen_from = j + first_lane - v * W;
      if (seen_from > 0) p = where(lanes_from(seen_from), p);
      if (seen_from + window < W) p = where(lanes_from(seen_from + window), zero(), p);
      return p;
    };
    const auto slope = [&](int64_t j, V p) LOWRANK_INLINE_LAMBDA {
      return mul(mul(p, scale_vector), sub(load(slopes + j * kTile + v * W), mean));
    };
    if constexpr (Scheme::kPairs) {
      for (int64_t j = 0; j < keys; j += 2) {  // a row of zeros follows an odd number of keys
        const int64_t at = j * kTile + v * W;
        const V p = probability(j), p_next = j + 1 < keys ? probability(j + 1) : zero();
        const V ds = slope(j, p), ds_next = j + 1 < keys ? slope(j + 1, p_next) : zero();
        Scheme::two_keys(p, p_next, p_rows + at, p_rows + at + kTile);
        store(ds_pairs + j / 2 * kTile + v * W, Scheme::two_keys(ds, ds_next, ds_rows + at, ds_rows + at + kTile));
      }
    } else {
      for (int64_t j = 0; j < keys; ++j) {
        const V p = probability(j);
        store(slopes + j * kTile + v * W, slope(j, p));
        store(scores + j * kTile + v * W, p);
      }
    }
  }
}

/// log-sum-exp in base 2 and D = dO . O of the queries of a tile, as lanes. Queries that see no key have -inf, which is
/// replaced by a value that makes every probability 0.
template <class T>
static void row_statistics(const T* out, int64_t out_ld, const T* dout, int64_t dout_ld, const float* lse,
                           int64_t lse_step, int64_t count, int64_t head_dim, float* lse2, float* delta) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = lse[i * lse_step];
    lse2[i] = value == kMinusInfinity ? -kUnseen : value * kLog2E;
    V products = zero();
    for_vectors(0, head_dim, [&](int64_t c, auto lanes) {
      products = fma(load(out + i * out_ld + c, lanes), load(dout + i * dout_ld + c, lanes), products);
    });
    delta[i] = sum(products);
  }
  for (int64_t i = count; i < kTile; ++i) lse2[i] = delta[i] = 0;
}

/// One query head of one sequence. dk and dv: fp32 [keys][padded head_dim], overwritten.
template <class Scheme>
static void backward_head(const AttentionShape& shape, const Sequence& sequence, int64_t head,
                          const AttentionBackward& of, float* dk, float* dv, std::byte* workspace) {
  using T = typename Scheme::Element;
  using Dot = typename Scheme::Dot;
  const int64_t d = shape.head_dim, padded = padded_head_dim(d), kv_head = head / (shape.heads / shape.kv_heads);
  Carver carver{workspace};
  float* queries = carver.take(head_tile_bytes(d));        // Q^T
  float* query_rows = carver.take(head_tile_bytes(d));     // Q
  float* gradients = carver.take(head_tile_bytes(d));      // dO^T
  float* gradient_rows = carver.take(head_tile_bytes(d));  // dO
  float* k_along = carver.take(head_tile_bytes(d));
  float* k_across = carver.take(head_tile_bytes(d));
  float* v_along = carver.take(head_tile_bytes(d));
  float* dq_sums = carver.take(head_tile_bytes(d));  // dQ^T
  float* scores = carver.take(kScoreTileBytes);
  float* slopes = carver.take(kScoreTileBytes);
  auto* p_rows = reinterpret_cast<Bf16*>(carver.take(kScoreTileBytes / 2));
  auto* ds_rows = reinterpret_cast<Bf16*>(carver.take(kScoreTileBytes / 2));
  float* ds_pairs = carver.take(kScoreTileBytes / 2);
  float* lse2 = carver.take(kTile * 4);
  float* delta = carver.take(kTile * 4);
  float* ones = carver.take(kTile * 4);
  std::fill(ones, ones + kTile, 1.0f);
  // P^T and dS^T, [keys][64], as the reductions over the queries read them
  constexpr int64_t kBytes = Scheme::kPairs ? 2 : 4, kElements = 4 / kBytes, row_bytes = kTile * kBytes;
  auto* const p = reinterpret_cast<std::byte*>(Scheme::kPairs ? static_cast<void*>(p_rows) : scores);
  auto* const ds = reinterpret_cast<std::byte*>(Scheme::kPairs ? static_cast<void*>(ds_rows) : slopes);
  std::memset(dk, 0, static_cast<size_t>(sequence.keys * padded) * 4);
  std::memset(dv, 0, static_cast<size_t>(sequence.keys * padded) * 4);

  for (int64_t i0 = 0; i0 < sequence.queries; i0 += kTile) {
    const int64_t count = std::min(kTile, sequence.queries - i0), row = sequence.q0 + i0;
    const T* q_rows = head_rows<T>(of.q, row, head, d);
    const T* dout_rows = head_rows<T>(of.dout, row, head, d);
    Scheme::pack_transposed(q_rows, of.q.ld, count, d, queries, k_along);
    Scheme::pack_transposed(dout_rows, of.dout.ld, count, d, gradients, k_along);
    Scheme::pack_rows(q_rows, of.q.ld, count, d, query_rows);
    Scheme::pack_rows(dout_rows, of.dout.ld, count, d, gradient_rows);
    row_statistics(head_rows<T>(of.out, row, head, d), of.out.ld, dout_rows, of.dout.ld,
                   host(of.lse) + row * shape.heads + head, shape.heads, count, d, lse2, delta);
    std::memset(dq_sums, 0, static_cast<size_t>(d * kTile) * 4);

    const int64_t visible = std::min(sequence.keys, sequence.offset + i0 + count);
    for (int64_t j0 = first_key_tile(shape, sequence, i0); j0 < visible; j0 += kTile) {
      const int64_t keys = std::min(kTile, visible - j0);
      const T* k_rows = head_rows<T>(of.k, sequence.k0 + j0, kv_head, d);
      const T* v_rows = head_rows<T>(of.v, sequence.k0 + j0, kv_head, d);
      const Broadcast k_tile = Scheme::along(k_rows, of.k.ld, keys, d, k_along);
      const Broadcast v_tile = Scheme::along(v_rows, of.v.ld, keys, d, v_along);
      const Broadcast k_columns = Scheme::across(k_rows, of.k.ld, keys, d, k_across);
      const int64_t first_lane = j0 - sequence.offset - i0;
      for (int64_t lane = 0; lane < count; lane += kStrip) {
        const int64_t seen = keys_seen(shape, sequence, i0 + lane, std::min(lane + kStrip, count) - lane, j0, keys);
        const int64_t vectors = strip_vectors(count - lane);
        multiply<Dot>(seen, vectors, k_tile, queries + lane, kTile, scores + lane, kTile, false);
        multiply<Dot>(seen, vectors, v_tile, gradients + lane, kTile, slopes + lane, kTile, false);
        differentiate<Scheme>(scores + lane, slopes + lane, seen, vectors, first_lane - lane, shape.window, shape.scale,
                              lse2 + lane, delta + lane, p_rows + lane, ds_rows + lane, ds_pairs + lane);
        // K^T dS^T, a reduction over the keys
        const Broadcast k_seen = {k_columns.data, k_columns.row, k_columns.step, Scheme::steps(seen)};
        multiply<Dot>(d, vectors, k_seen, (Scheme::kPairs ? ds_pairs : slopes) + lane, kTile, dq_sums + lane, kTile,
                      true);
        for (int64_t key = seen; key < keys; ++key) {
          std::memset(p + key * row_bytes + lane * kBytes, 0, kStrip * kBytes);
          std::memset(ds + key * row_bytes + lane * kBytes, 0, kStrip * kBytes);
        }
      }
      // reductions over the queries: P^T dO and dS^T Q
      const int64_t steps = Scheme::steps(count);
      multiply_triangle<Dot, kElements>(keys, padded / W, {p, row_bytes, 4, steps}, first_lane, gradient_rows, padded,
                                        dv + j0 * padded, padded);
      multiply_triangle<Dot, kElements>(keys, padded / W, {ds, row_bytes, 4, steps}, first_lane, query_rows, padded,
                                        dk + j0 * padded, padded);
    }
    store_transposed(dq_sums, ones, count, d, row_as<T>(of.dq, row) + head * d, of.dq.ld);
  }
}

/// out[row, kv head] = sum over the query heads of the group of parts[head][row].
template <class T>
static void sum_groups(Pool& pool, const AttentionShape& shape, int64_t rows, const float* parts, const Matrix& out) {
  const int64_t d = shape.head_dim, padded = padded_head_dim(d), group = shape.heads / shape.kv_heads;
  for_rows(pool, rows, int64_t{shape.heads} * d, [&](int64_t row) {
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      const float* first = parts + (kv_head * group * rows + row) * padded;
      T* to = row_as<T>(out, row) + kv_head * d;
      for_vectors(0, d, [&](int64_t c, auto lanes) {
        V total = load(first + c, lanes);
        for (int64_t g = 1; g < group; ++g) total = add(total, load(first + g * rows * padded + c, lanes));
        store(to + c, total, lanes);
      });
    }
  });
}

template <class Scheme>
static void backward(const Cpu& cpu, const AttentionShape& shape, const AttentionBackward& of) {
  using T = typename Scheme::Element;
  const int64_t rows = shape.keys, padded = padded_head_dim(shape.head_dim);
  auto* dk_parts = reinterpret_cast<float*>(cpu.room + cpu.pool.threads() * backward_thread_bytes(shape.head_dim));
  float* dv_parts = dk_parts + rows * shape.heads * padded;
  for_units(cpu.pool, int64_t{shape.sequences} * shape.heads, [&](int thread, int64_t unit) {
    const Sequence sequence = sequence_of(shape, unit / shape.heads);
    const int64_t head = unit % shape.heads, at = (head * rows + sequence.k0) * padded;
    backward_head<Scheme>(shape, sequence, head, of, dk_parts + at, dv_parts + at,
                          cpu.room + thread * backward_thread_bytes(shape.head_dim));
  });
  sum_groups<T>(cpu.pool, shape, rows, dk_parts, of.dk);
  sum_groups<T>(cpu.pool, shape, rows, dv_parts, of.dv);
}

static void run(const Cpu& cpu, const AttentionBackward& k) {
  const AttentionShape shape = shape_of(k);
  if (k.q.dtype == DType::f32) return backward<Fp32Scheme<float>>(cpu, shape, k);
#if LOWRANK_VEC_BF16
  if (shape.head_dim % 2 == 0) return backward<PairScheme>(cpu, shape, k);
#endif
  backward<Fp32Scheme<Bf16>>(cpu, shape, k);
}
