// Attention of single queries over a long cache, as in generation: bound by reading K and V, so every key is read once,
// for all query heads of its group. The keys of a (sequence, kv head) are cut into a number of ranges that depends on
// the shape alone, and the parts are merged in order.
#pragma once

#include "backends/cpu/attention/attention_tiles.inl"

inline constexpr int64_t kDecodeKeys = 64;  // keys whose scores are computed before their values are read

static bool one_query_each(const AttentionShape& shape) {
  for (int64_t s = 0; s < shape.sequences; ++s) {
    if (shape.seqlens[s + 1] - shape.seqlens[s] != 1) return false;
  }
  return true;
}
/// Floats of one head's running state: sums, then largest score and total.
static int64_t decode_state_floats(int64_t head_dim) { return padded_head_dim(head_dim) + 16; }
static int64_t decode_scratch_bytes(int64_t head_dim) {
  return kDecodeKeys * 4 + 2 * kDecodeKeys * padded_head_dim(head_dim) * 4;
}
static bool can_decode(const AttentionShape& shape) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t bytes = group * (decode_state_floats(shape.head_dim) + padded_head_dim(shape.head_dim)) * 4;
  return one_query_each(shape) && decode_scratch_bytes(shape.head_dim) + bytes <= forward_thread_bytes(shape.head_dim);
}

/// scores[j] = factor * q . k[j] for `keys` rows of k, a vector of keys at a time.
static void decode_scores(const float* q, const float* k, int64_t ld, int64_t keys, int64_t head_dim, float factor,
                          float* scores) {
  for (int64_t j = 0; j < keys; j += W) {
    const int64_t count = std::min(W, keys - j);
    V products[W];
    for (int64_t row = 0; row < W; row += 4) {
      // past the last key the last one is read again and its score ignored
      const float* rows[4];
      for (int64_t i = 0; i < 4; ++i) rows[i] = k + (j + std::min(row + i, count - 1)) * ld;
      V a = zero(), b = zero(), c = zero(), e = zero();
      for_vectors(0, head_dim, [&](int64_t i, auto lanes) {
        const V query = load(q + i, lanes);
        a = fma(query, load(rows[0] + i, lanes), a);
        b = fma(query, load(rows[1] + i, lanes), b);
        c = fma(query, load(rows[2] + i, lanes), c);
        e = fma(query, load(rows[3] + i, lanes), e);
      });
      products[row] = a;
      products[row + 1] = b;
      products[row + 2] = c;
      products[row + 3] = e;
    }
    transpose(products);
    V total = zero();
    for (int64_t i = 0; i < W; ++i) total = add(total, products[i]);
    store(scores + j, mul(total, set1(factor)));
  }
}

/// sums = decay * sums + sum over j of p[j] v[j].
static void decode_values(const float* p, const float* v, int64_t ld, int64_t keys, int64_t head_dim, float decay,
                          float* sums) {
  int64_t i = 0;
  for (; i + 4 * W <= head_dim; i += 4 * W) {
    const float* column = v + i;
    V a = mul(load(sums + i), set1(decay)), b = mul(load(sums + i + W), set1(decay));
    V c = mul(load(sums + i + 2 * W), set1(decay)), e = mul(load(sums + i + 3 * W), set1(decay));
    for (int64_t j = 0; j < keys; ++j, column += ld) {
      const V weight = set1(p[j]);
      a = fma(weight, load(column), a);
      b = fma(weight, load(column + W), b);
      c = fma(weight, load(column + 2 * W), c);
      e = fma(weight, load(column + 3 * W), e);
    }
    store(sums + i, a);
    store(sums + i + W, b);
    store(sums + i + 2 * W, c);
    store(sums + i + 3 * W, e);
  }
  for_vectors(i, head_dim, [&](int64_t at, auto lanes) {
    V a = mul(load(sums + at, lanes), set1(decay));
    for (int64_t j = 0; j < keys; ++j) a = fma(set1(p[j]), load(v + j * ld + at, lanes), a);
    store(sums + at, a, lanes);
  });
}

/// Runs one kv head over keys [begin, end), leaving the state of every head of its group in `states`.
template <class T>
static void decode_range(const AttentionShape& shape, const T* q, const T* k, int64_t k_ld, const T* v, int64_t v_ld,
                         int64_t begin, int64_t end, float* states, float* scratch) {
  const int64_t d = shape.head_dim, padded = padded_head_dim(d), group = shape.heads / shape.kv_heads;
  const int64_t floats = decode_state_floats(d);
  Carver carver{reinterpret_cast<std::byte*>(scratch)};
  float* scores = carver.take(kDecodeKeys * 4);
  float* wide = carver.take(2 * kDecodeKeys * padded * 4);
  float* queries = carver.take(group * padded * 4);
  for (int64_t g = 0; g < group; ++g) {
    convert_row(q + g * d, queries + g * padded, d);
    float* state = states + g * floats;
    std::fill(state, state + floats, 0.0f);
    state[floats - 2] = kMinusInfinity;
  }
  // Rows in fp32, widened once for all heads of the group.
  const auto rows_of = [&](const T* rows, int64_t ld, int64_t keys, float* to, int64_t& out_ld) -> const float* {
    if constexpr (std::is_same_v<T, float>) {
      out_ld = ld;
      return rows;
    } else {
      for (int64_t j = 0; j < keys; ++j) convert_row(rows + j * ld, to + j * padded, d);
      out_ld = padded;
      return to;
    }
  };
  for (int64_t j0 = begin; j0 < end; j0 += kDecodeKeys) {
    const int64_t keys = std::min(kDecodeKeys, end - j0);
    int64_t k_step = 0, v_step = 0;
    const float* k_rows = rows_of(k + j0 * k_ld, k_ld, keys, wide, k_step);
    const float* v_rows = rows_of(v + j0 * v_ld, v_ld, keys, wide + kDecodeKeys * padded, v_step);
    for (int64_t g = 0; g < group; ++g) {
      float* state = states + g * floats;
      float& top = state[floats - 2];
      float& total = state[floats - 1];
      decode_scores(queries + g * padded, k_rows, k_step, keys, d, shape.scale * kLog2E, scores);
      V most = set1(scores[0]);
      for_vectors(0, keys, [&](int64_t i, auto lanes) {
        if constexpr (std::is_same_v<decltype(lanes), Part>) {
          most = max(most, where(lanes_below(lanes.count), load(scores + i), most));
        } else {
          most = max(most, load(scores + i));
        }
      });
      const float before = top, shift = std::max(before, largest(most));
      const float decay = math::exp2(before - shift);
      const float added = sum_vectors(keys, [&](int64_t i, auto lanes) {
        V p = exp2(sub(load(scores + i), set1(shift)));
        if constexpr (std::is_same_v<decltype(lanes), Part>) p = where(lanes_below(lanes.count), p);
        store(scores + i, p);
        return p;
      });
      top = shift;
      total = total * decay + added;
      decode_values(scores, v_rows, v_step, keys, d, decay, state);
    }
  }
}

/// Merges the states of `parts` key ranges of one head (`stride` floats apart) and stores the result.
template <class T>
static void decode_finish(const float* states, int64_t parts, int64_t stride, int64_t head_dim, T* out, float* lse) {
  const int64_t floats = decode_state_floats(head_dim);
  float top = kMinusInfinity;
  for (int64_t part = 0; part < parts; ++part) top = std::max(top, states[part * stride + floats - 2]);
  const float shift = top == kMinusInfinity ? 0.0f : top;
  float total = 0, weights[kDecodeUnits];
  for (int64_t part = 0; part < parts; ++part) {
    weights[part] = math::exp2(states[part * stride + floats - 2] - shift);
    total += states[part * stride + floats - 1] * weights[part];
  }
  const V inverse = set1(total == 0.0f ? 0.0f : 1.0f / total);
  for_vectors(0, head_dim, [&](int64_t i, auto lanes) {
    V value = zero();
    for (int64_t part = 0; part < parts; ++part)
      value = fma(set1(weights[part]), load(states + part * stride + i, lanes), value);
    store(out + i, mul(value, inverse), lanes);
  });
  if (lse != nullptr) *lse = total == 0.0f ? kMinusInfinity : (top + math::log2(total)) / kLog2E;
}

template <class T>
static void decode(const Cpu& cpu, const AttentionShape& shape, const Attention& of) {
  const int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads, floats = decode_state_floats(d);
  const int64_t heads = int64_t{shape.sequences} * shape.kv_heads;
  const auto seen = [&](int64_t s) {
    return std::min<int64_t>(shape.seqlens[s + 1] - shape.seqlens[s] + shape.cached, shape.window);
  };
  int64_t longest = 0;
  for (int64_t s = 0; s < shape.sequences; ++s) longest = std::max(longest, seen(s));
  const int64_t parts =
      std::clamp<int64_t>(std::min(kDecodeUnits / std::max<int64_t>(heads, 1), longest / 256), 1, kDecodeUnits);
  std::byte* threads_end = cpu.room + cpu.pool.threads() * forward_thread_bytes(d);
  auto* shared = reinterpret_cast<float*>(threads_end);

  const auto finish = [&](int64_t head_unit, const float* states, int64_t count) {
    const int64_t s = head_unit / shape.kv_heads, row = shape.seqlens[s];
    for (int64_t g = 0; g < group; ++g) {
      const int64_t head = head_unit % shape.kv_heads * group + g;
      decode_finish(states + g * floats, count, group * floats, d, row_as<T>(of.out, row) + head * d,
                    of.lse ? host(of.lse) + row * shape.heads + head : nullptr);
    }
  };
  for_units(cpu.pool, heads * parts, [&](int thread, int64_t unit) {
    const int64_t part = unit % parts, head_unit = unit / parts;
    const int64_t s = head_unit / shape.kv_heads, kv_head = head_unit % shape.kv_heads;
    const int64_t keys = seen(s), k0 = shape.seqlens[s + 1] + shape.cached - keys;
    auto* scratch = reinterpret_cast<float*>(cpu.room + thread * forward_thread_bytes(d));
    float* states =
        parts > 1 ? shared + unit * group * floats : scratch + decode_scratch_bytes(d) / 4 + group * padded_head_dim(d);
    decode_range(shape, row_as<T>(of.q, shape.seqlens[s]) + kv_head * group * d, row_as<T>(of.k, k0) + kv_head * d,
                 of.k.ld, row_as<T>(of.v, k0) + kv_head * d, of.v.ld, keys * part / parts, keys * (part + 1) / parts,
                 states, scratch);
    if (parts == 1) finish(head_unit, states, 1);
  });
  if (parts > 1) {
    for_units(cpu.pool, heads,
              [&](int, int64_t head_unit) { finish(head_unit, shared + head_unit * parts * group * floats, parts); });
  }
}
