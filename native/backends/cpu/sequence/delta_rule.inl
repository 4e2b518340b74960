// The gated delta rule over vectors of a state's columns, which do not depend on each other.
//
// A state [key_dim, value_dim] lies in memory by strips of one or more vectors of columns, each [key_dim, columns];
// strips after the last column are padding. Chunks of tokens are converted to fp32 first.

#pragma once

inline constexpr int kForwardVectors = 4;
/// Fewer where vectors are wide, so that the states of a chunk stay in the cache.
inline constexpr int kBackwardVectors = kDeltaColumns / W < 4 ? kDeltaColumns / W : 4;

/// body(first column, constant number of vectors) for the strips of a state, of `kVectors` vectors or one.
template <int kVectors, class Body>
static LOWRANK_INLINE void for_strips(int64_t value_dim, Body&& body) {
  int64_t col = 0;
  for (; col + kVectors * W <= value_dim; col += kVectors * W) body(col, std::integral_constant<int, kVectors>());
  for (; col < value_dim; col += W) body(col, std::integral_constant<int, 1>());
}

/// Copies a state [key_dim, value_dim] to strips, or zeros if it is null.
static void state_to_strips(const DeltaHeads& heads, const float* state, float* strips) {
  for_strips<kForwardVectors>(heads.value_dim, [&](int64_t col, auto vectors) {
    constexpr int64_t kCols = decltype(vectors)::value * W;
    float* const to = strips + col * heads.key_dim;
    for (int64_t i = 0; i < heads.key_dim; ++i) {
      const int64_t count = std::min(kCols, heads.value_dim - col);
      std::fill_n(to + i * kCols, kCols, 0.0f);
      if (state != nullptr) std::copy_n(state + i * heads.value_dim + col, count, to + i * kCols);
    }
  });
}
static void strips_to_state(const DeltaHeads& heads, const float* strips, float* state) {
  for_strips<kForwardVectors>(heads.value_dim, [&](int64_t col, auto vectors) {
    constexpr int64_t kCols = decltype(vectors)::value * W;
    const float* const from = strips + col * heads.key_dim;
    for (int64_t i = 0; i < heads.key_dim; ++i)
      std::copy_n(from + i * kCols, std::min(kCols, heads.value_dim - col), state + i * heads.value_dim + col);
  });
}

/// A chunk of tokens of a head: q and k [tokens, key_dim] over their norms, v [tokens, padded], the gates.
struct DeltaRows {
  int64_t key_dim, padded;
  float *q, *k, *v, *beta, *decay;
};

/// x / norm * factor; returns 1 / norm.
template <class T>
static float load_unit(const T* x, int64_t count, float factor, float* to) {
  const float squares = sum_vectors(count, [&](int64_t i, auto lanes) {
    const V a = load(x + i, lanes);
    return mul(a, a);
  });
  const float over = 1.0f / std::sqrt(squares + static_cast<float>(kDeltaEpsilon));
  const V by = set1(over * factor);
  for_vectors(0, count, [&](int64_t i, auto lanes) { store(to + i, mul(load(x + i, lanes), by), lanes); });
  return over;
}

/// A row of `cols` elements as fp32, followed by zeros.
template <class T>
static void load_padded(const T* from, int64_t cols, int64_t padded, float* to) {
  std::fill(to + cols, to + padded, 0.0f);
  convert_row(from, to, cols);
}

static float query_factor(const DeltaHeads& heads) { return 1.0f / std::sqrt(static_cast<float>(heads.key_dim)); }

/// The next tokens of a strip of a state, which is updated: o [tokens, padded].
template <int kVectors>
static void delta_forward(const DeltaRows& in, int64_t count, int64_t col, float* state, float* o) {
  constexpr int64_t kCols = kVectors * W;
  for (int64_t t = 0; t < count; ++t) {
    const float *q = in.q + t * in.key_dim, *k = in.k + t * in.key_dim, *v = in.v + t * in.padded + col;
    const V decay = set1(in.decay[t]), beta = set1(in.beta[t]);
    V sums[kVectors], delta[kVectors];
    for (V& sum : sums) sum = zero();
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]);
      for (int n = 0; n < kVectors; ++n) sums[n] = fma(load(state + i * kCols + n * W), key, sums[n]);
    }
    for (int n = 0; n < kVectors; ++n) delta[n] = mul(beta, fnma(decay, sums[n], load(v + n * W)));
    for (V& sum : sums) sum = zero();
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]), query = set1(q[i]);
      for (int n = 0; n < kVectors; ++n) {
        float* const at = state + i * kCols + n * W;
        const V next = fma(key, delta[n], mul(decay, load(at)));
        store(at, next);
        sums[n] = fma(next, query, sums[n]);
      }
    }
    for (int n = 0; n < kVectors; ++n) store(o + t * in.padded + col + n * W, sums[n]);
  }
}

template <class T>
static void delta_forward_head(const GatedDeltaRule& k, int64_t first, int64_t end, int64_t head, float* room) {
  const DeltaHeads& heads = k.in.shape;
  const int64_t padded = padded_value_dim(heads.value_dim), keys = heads.keys();
  const int64_t key_head = head / heads.group();
  float* const strips = room;
  DeltaRows in{heads.key_dim, padded, strips + heads.key_dim * padded, nullptr, nullptr, nullptr, nullptr};
  in.k = in.q + kDeltaTokens * heads.key_dim;
  in.v = in.k + kDeltaTokens * heads.key_dim;
  float* const o = in.v + kDeltaTokens * padded;
  in.beta = o + kDeltaTokens * padded;
  in.decay = in.beta + kDeltaTokens;
  float* const own = k.state ? host(k.state) + head * heads.head_state() : nullptr;
  state_to_strips(heads, k.past > 0 ? own : nullptr, strips);
  for (int64_t begin = first; begin < end;) {
    const int64_t next = k.chunk_end(begin, end), count = next - begin;
    for (int64_t t = 0; t < count; ++t) {
      const T* const x = row_as<T>(k.in.x, begin + t);
      load_unit(x + key_head * heads.key_dim, heads.key_dim, query_factor(heads), in.q + t * heads.key_dim);
      load_unit(x + keys + key_head * heads.key_dim, heads.key_dim, 1.0f, in.k + t * heads.key_dim);
      load_padded(x + 2 * keys + head * heads.value_dim, heads.value_dim, padded, in.v + t * padded);
      const DeltaGates gates = delta_gates(k.in, begin + t, head);
      in.beta[t] = static_cast<float>(gates.beta);
      in.decay[t] = static_cast<float>(gates.decay);
    }
    for_strips<kForwardVectors>(heads.value_dim, [&](int64_t col, auto vectors) {
      delta_forward<decltype(vectors)::value>(in, count, col, strips + col * heads.key_dim, o);
    });
    for (int64_t t = 0; t < count; ++t)
      convert_row(o + t * padded, row_as<T>(k.out, begin + t) + head * heads.value_dim, heads.value_dim);
    if (float* const kept = host(k.end_before(next, head))) strips_to_state(heads, strips, kept);
    begin = next;
  }
  if (own != nullptr) strips_to_state(heads, strips, own);
}

static void run(const Cpu& cpu, const GatedDeltaRule& k) {
  with_type(k.out.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    const DeltaHeads& heads = k.in.shape;
    for_units(cpu.pool, k.in.sequences() * heads.heads, [&](int thread, int64_t unit) {
      const int32_t* const rows = k.in.host_seqlens.data() + unit / heads.heads;
      float* const room =
          reinterpret_cast<float*>(cpu.room) + thread * delta_thread_floats(heads.key_dim, heads.value_dim);
      delta_forward_head<T>(k, rows[0], rows[1], unit % heads.heads, room);
    });
  });
}

/// The workspace of the backward pass of a chunk.
struct DeltaBackwardRows : DeltaRows {
  float *query_norms, *key_norms;  // 1 / norm
  float* slope;                    // of g in alpha
  float *error, *dout, *dv;        // [tokens, padded]; error = v - S'^T k
  float *dq, *dk;                  // [tokens, key_dim]
  float *dbeta, *dg;               // [tokens]
  float* states;                   // of a strip, before the first token and after each
};

/// Fills in.states from its first one, and in.error.
template <int kVectors>
static void delta_states(const DeltaBackwardRows& in, int64_t count, int64_t col) {
  constexpr int64_t kCols = kVectors * W;
  for (int64_t t = 0; t < count; ++t) {
    const float *k = in.k + t * in.key_dim, *from = in.states + t * in.key_dim * kCols;
    float *to = in.states + (t + 1) * in.key_dim * kCols, *error = in.error + t * in.padded + col;
    const V decay = set1(in.decay[t]), beta = set1(in.beta[t]);
    V sums[kVectors], delta[kVectors];
    for (V& sum : sums) sum = zero();
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]);
      for (int n = 0; n < kVectors; ++n) sums[n] = fma(load(from + i * kCols + n * W), key, sums[n]);
    }
    for (int n = 0; n < kVectors; ++n) {
      const V e = fnma(decay, sums[n], load(in.v + t * in.padded + col + n * W));
      store(error + n * W, e);
      delta[n] = mul(beta, e);
    }
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]);
      for (int n = 0; n < kVectors; ++n) {
        const int64_t at = i * kCols + n * W;
        store(to + at, fma(key, delta[n], mul(decay, load(from + at))));
      }
    }
  }
}

/// The tokens of a chunk from the last one on; `g` is the gradient of a strip of the state. Adds to dq, dk, dbeta, dg.
template <int kVectors>
static void delta_backward(const DeltaBackwardRows& in, int64_t count, int64_t col, float* g) {
  constexpr int64_t kCols = kVectors * W;
  for (int64_t t = count - 1; t >= 0; --t) {
    const float *q = in.q + t * in.key_dim, *k = in.k + t * in.key_dim;
    const float *before = in.states + t * in.key_dim * kCols, *after = before + in.key_dim * kCols;
    float *dq = in.dq + t * in.key_dim, *dk = in.dk + t * in.key_dim;
    const V decay = set1(in.decay[t]), beta = set1(in.beta[t]);
    V d[kVectors], delta[kVectors], dv[kVectors];
    for (int n = 0; n < kVectors; ++n) {
      d[n] = load(in.dout + t * in.padded + col + n * W);
      delta[n] = zero();
    }
    // The gradient of the correction, delta = beta (v - S'^T k), is G^T k.
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]), query = set1(q[i]);
      V along = zero();
      for (int n = 0; n < kVectors; ++n) {
        float* const at = g + i * kCols + n * W;
        const V next = fma(query, d[n], load(at));
        store(at, next);
        delta[n] = fma(next, key, delta[n]);
        along = fma(load(after + i * kCols + n * W), d[n], along);
      }
      dq[i] += sum(along);
    }
    V of_beta = zero(), of_g = zero();
    for (int n = 0; n < kVectors; ++n) {
      const V error = load(in.error + t * in.padded + col + n * W);
      of_beta = fma(delta[n], error, of_beta);
      dv[n] = mul(beta, delta[n]);
      store(in.dv + t * in.padded + col + n * W, dv[n]);
      delta[n] = mul(beta, error);
    }
    for (int64_t i = 0; i < in.key_dim; ++i) {
      const V key = set1(k[i]);
      V along = zero();
      for (int n = 0; n < kVectors; ++n) {
        float* const at = g + i * kCols + n * W;
        const V old = load(at), decayed = mul(decay, load(before + i * kCols + n * W));
        along = fma(old, delta[n], fnma(decayed, dv[n], along));
        const V less = fnma(key, dv[n], old);
        of_g = fma(less, decayed, of_g);
        store(at, mul(decay, less));
      }
      dk[i] += sum(along);
    }
    in.dbeta[t] += sum(of_beta);
    in.dg[t] += sum(of_g);
  }
}

/// The gradient of x of a unit vector y = x / norm * factor.
template <class T>
static void store_unit_gradient(const float* dy, const float* y, int64_t count, float factor, float over, T* dx) {
  const float along =
      sum_vectors(count, [&](int64_t i, auto lanes) { return mul(load(dy + i, lanes), load(y + i, lanes)); });
  const V by = set1(over * factor), less = set1(over * along / factor);
  for_vectors(0, count, [&](int64_t i, auto lanes) {
    store(dx + i, fms(by, load(dy + i, lanes), mul(less, load(y + i, lanes))), lanes);
  });
}

static DeltaBackwardRows delta_backward_rows(const DeltaHeads& heads, float* room) {
  DeltaBackwardRows in;
  const int64_t padded = padded_value_dim(heads.value_dim);
  in.key_dim = heads.key_dim;
  in.padded = padded;
  const auto take = [&](int64_t count) { return std::exchange(room, room + count); };
  in.states = take((kDeltaTokens + 1) * heads.key_dim * kDeltaColumns);
  for (float** const rows : {&in.v, &in.error, &in.dout, &in.dv}) *rows = take(kDeltaTokens * padded);
  for (float** const rows : {&in.q, &in.k, &in.dq, &in.dk}) *rows = take(kDeltaTokens * heads.key_dim);
  for (float** const rows : {&in.beta, &in.decay, &in.slope, &in.query_norms, &in.key_norms, &in.dbeta, &in.dg})
    *rows = take(kDeltaTokens);
  return in;
}

template <class T>
static void delta_backward_chunk(const GatedDeltaRuleBackward& k, const DeltaBackwardRows& in, int64_t begin,
                                 int64_t count, int64_t head, const float* before, float* g) {
  const DeltaHeads& heads = k.in.shape;
  const int64_t first = 2 * heads.keys() + head * heads.value_dim;
  for (int64_t t = 0; t < count; ++t) {
    load_padded(row_as<T>(k.in.x, begin + t) + first, heads.value_dim, in.padded, in.v + t * in.padded);
    load_padded(row_as<T>(k.dout, begin + t) + head * heads.value_dim, heads.value_dim, in.padded,
                in.dout + t * in.padded);
    const DeltaGates gates = delta_gates(k.in, begin + t, head);
    in.beta[t] = static_cast<float>(gates.beta);
    in.decay[t] = static_cast<float>(gates.decay);
    in.slope[t] = static_cast<float>(gates.slope);
    in.dbeta[t] = in.dg[t] = 0;
  }
  for_strips<kBackwardVectors>(heads.value_dim, [&](int64_t col, auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    constexpr int64_t kCols = kVectors * W;
    const int64_t cols = std::min(kCols, heads.value_dim - col);
    std::fill_n(in.states, heads.key_dim * kCols, 0.0f);
    for (int64_t i = 0; before != nullptr && i < heads.key_dim; ++i)
      std::copy_n(before + i * heads.value_dim + col, cols, in.states + i * kCols);
    delta_states<kVectors>(in, count, col);
    delta_backward<kVectors>(in, count, col, g + col * heads.key_dim);
  });
  for (int64_t t = 0; t < count; ++t) {
    convert_row(in.dv + t * in.padded, row_as<T>(k.dx, begin + t) + first, heads.value_dim);
    store_element(host(k.dbeta.rows(begin + t).data), k.dbeta.dtype, head,
                  in.dbeta[t] * in.beta[t] * (1.0f - in.beta[t]));
    store_element(host(k.dalpha.rows(begin + t).data), k.dalpha.dtype, head, in.dg[t] * in.slope[t]);
  }
}

/// The heads of a key head of a sequence.
template <class T>
static void delta_backward_heads(const GatedDeltaRuleBackward& k, int64_t first, int64_t end, int64_t key_head,
                                 float* room) {
  const DeltaHeads& heads = k.in.shape;
  const int64_t keys = heads.keys(), gradient = heads.key_dim * padded_value_dim(heads.value_dim);
  std::fill_n(room, heads.group() * gradient, 0.0f);
  const DeltaBackwardRows in = delta_backward_rows(heads, room + heads.group() * gradient);
  for (int64_t last = end; last > first;) {
    const int64_t begin = std::max(first, (last - 1) / kDeltaTokens * kDeltaTokens), count = last - begin;
    for (int64_t t = 0; t < count; ++t) {
      const T* const x = row_as<T>(k.in.x, begin + t) + key_head * heads.key_dim;
      in.query_norms[t] = load_unit(x, heads.key_dim, query_factor(heads), in.q + t * heads.key_dim);
      in.key_norms[t] = load_unit(x + keys, heads.key_dim, 1.0f, in.k + t * heads.key_dim);
    }
    std::fill_n(in.dq, count * heads.key_dim, 0.0f);
    std::fill_n(in.dk, count * heads.key_dim, 0.0f);
    for (int64_t h = 0; h < heads.group(); ++h) {
      const int64_t head = key_head * heads.group() + h;
      delta_backward_chunk<T>(k, in, begin, count, head, begin > first ? host(k.end_before(begin, head)) : nullptr,
                              room + h * gradient);
    }
    for (int64_t t = 0; t < count; ++t) {
      T* const to = row_as<T>(k.dx, begin + t) + key_head * heads.key_dim;
      const int64_t at = t * heads.key_dim;
      store_unit_gradient(in.dq + at, in.q + at, heads.key_dim, query_factor(heads), in.query_norms[t], to);
      store_unit_gradient(in.dk + at, in.k + at, heads.key_dim, 1.0f, in.key_norms[t], to + keys);
    }
    last = begin;
  }
}

static void run(const Cpu& cpu, const GatedDeltaRuleBackward& k) {
  with_type(k.dout.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    const DeltaHeads& heads = k.in.shape;
    for_units(cpu.pool, k.in.sequences() * heads.key_heads, [&](int thread, int64_t unit) {
      const int32_t* const rows = k.in.host_seqlens.data() + unit / heads.key_heads;
      float* const room = reinterpret_cast<float*>(cpu.room) +
                          thread * delta_backward_thread_floats(heads.group(), heads.key_dim, heads.value_dim);
      delta_backward_heads<T>(k, rows[0], rows[1], unit % heads.key_heads, room);
    });
  });
}
