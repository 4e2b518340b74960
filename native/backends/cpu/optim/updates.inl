// The updates of optimizers over vectors.
#pragma once

/// Factors of an AdamW update.
struct AdamWFactors {
  V b1, b2, c1, c2, step, decay, root, epsilon, grad_scale;

  AdamWFactors(const AdamW& k, const UpdatePiece& piece)
      : b1(set1(k.beta1)),
        b2(set1(k.beta2)),
        c1(set1(static_cast<float>(1.0 - static_cast<double>(k.beta1)))),
        c2(set1(static_cast<float>(1.0 - static_cast<double>(k.beta2)))),
        step(set1(static_cast<float>(piece.learning_rate / (1.0 - power(k.beta1, piece.step))))),
        decay(set1(static_cast<float>(1.0 - static_cast<double>(piece.learning_rate) * piece.weight_decay))),
        root(set1(static_cast<float>(1.0 / std::sqrt(1.0 - power(k.beta2, piece.step))))),
        epsilon(set1(k.epsilon)),
        grad_scale(set1(k.grad_scale)) {}

  static double power(float beta, int64_t step) {
    return math::pow(static_cast<double>(beta), static_cast<double>(step));
  }
};

/// v is the second moment, or with `kRoot` its root.
template <bool kRoot>
static LOWRANK_INLINE void update_adamw(const AdamWFactors& by, int64_t count, const float* grad, float* m, float* v,
                                        float* p) {
  for_vectors(0, count, [&](int64_t i, auto lanes) {
    const V g = mul(load(grad + i, lanes), by.grad_scale);
    const V kept = load(v + i, lanes);
    const V first = fma(by.b1, load(m + i, lanes), mul(by.c1, g));
    const V second = fma(by.b2, kRoot ? mul(kept, kept) : kept, mul(mul(by.c2, g), g));
    const V root = sqrt(second);
    store(m + i, first, lanes);
    store(v + i, kRoot ? root : second, lanes);
    const V update = div(mul(by.step, first), fma(root, by.root, by.epsilon));
    store(p + i, sub(mul(load(p + i, lanes), by.decay), update), lanes);
  });
}

static LOWRANK_INLINE void decode(const DynamicCoder& coder, const DynamicCodes& from, int64_t count, float* out) {
  const int64_t whole = count / W * W;
  const V absmax = set1(*from.absmax);
  for (int64_t i = 0; i < whole; i += W) store(out + i, mul(look_up(coder.map(), from.codes + i), absmax));
  for (int64_t i = whole; i < count; ++i) out[i] = coder.map()[from.codes[i]] * *from.absmax;
}

static LOWRANK_INLINE void encode(const DynamicCoder& coder, const float* values, int64_t count,
                                  const DynamicCodes& to) {
  V high = zero(), low = zero();
  for_vectors(0, count, [&](int64_t i, auto lanes) {
    const V x = load(values + i, lanes);
    high = max(x, high);
    low = min(x, low);
  });
  const float inverse = begin_block(to, largest(max(high, sub(zero(), low))));
  const auto scaled = [&](V x) { return min(max(mul(x, set1(inverse)), set1(-1.0f)), set1(1.0f)); };
  const int64_t whole = count / W * W;
  for (int64_t i = 0; i < whole; i += W) find_codes(coder, scaled(load(values + i)), to.codes + i);
  if (whole == count) return;
  alignas(64) float rest[W];
  store(rest, scaled(load(values + whole, count - whole)));
  for (int64_t i = whole; i < count; ++i) to.codes[i] = coder.code(rest[i - whole]);
}

static void adamw_8bit(const AdamWFactors& by, int64_t count, const float* grad, const DynamicCodes& m,
                       const DynamicCodes& root_v, float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    alignas(64) float first[kDynamicBlock], root[kDynamicBlock];
    decode(DynamicCoder::with_sign(), m.from(begin), size, first);
    decode(DynamicCoder::without_sign(), root_v.from(begin), size, root);
    update_adamw<true>(by, size, grad + begin, first, root, p + begin);
    encode(DynamicCoder::with_sign(), first, size, m.from(begin));
    encode(DynamicCoder::without_sign(), root, size, root_v.from(begin));
  });
}

static void update_sgd(const Sgd& k, const UpdatePiece& piece, int64_t count, const float* grad, float* m, float* p) {
  const V rate = set1(piece.learning_rate), momentum = set1(k.momentum), decay = set1(piece.weight_decay);
  const V grad_scale = set1(k.grad_scale);
  for_vectors(0, count, [&](int64_t i, auto lanes) {
    const V value = load(p + i, lanes);
    const V g = fma(load(grad + i, lanes), grad_scale, mul(decay, value));
    const V moved = m == nullptr ? g : fma(momentum, load(m + i, lanes), g);
    if (m != nullptr) store(m + i, moved, lanes);
    store(p + i, sub(value, mul(rate, moved)), lanes);
  });
}

/// Factors of a Lion update.
struct LionFactors {
  V b1, b2, c1, c2, rate, decay, grad_scale;

  LionFactors(const Lion& k, const UpdatePiece& piece)
      : b1(set1(k.beta1)),
        b2(set1(k.beta2)),
        c1(set1(static_cast<float>(1.0 - static_cast<double>(k.beta1)))),
        c2(set1(static_cast<float>(1.0 - static_cast<double>(k.beta2)))),
        rate(set1(piece.learning_rate)),
        decay(set1(static_cast<float>(1.0 - static_cast<double>(piece.learning_rate) * piece.weight_decay))),
        grad_scale(set1(k.grad_scale)) {}
};

static LOWRANK_INLINE void update_lion(const LionFactors& by, int64_t count, const float* grad, float* m, float* p) {
  for_vectors(0, count, [&](int64_t i, auto lanes) {
    const V g = mul(load(grad + i, lanes), by.grad_scale), moment = load(m + i, lanes);
    const V mixed = fma(by.b1, moment, mul(by.c1, g));
    // Minus the rate where it is negative, the rate elsewhere but at 0.
    const V against = where(not_below(mixed, zero()), by.rate, sub(zero(), by.rate));
    const V update = where(equal(mixed, zero()), zero(), against);
    store(p + i, sub(mul(load(p + i, lanes), by.decay), update), lanes);
    store(m + i, fma(by.b2, moment, mul(by.c2, g)), lanes);
  });
}

static void lion_8bit(const LionFactors& by, int64_t count, const float* grad, const DynamicCodes& m, float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    alignas(64) float moment[kDynamicBlock];
    decode(DynamicCoder::with_sign(), m.from(begin), size, moment);
    update_lion(by, size, grad + begin, moment, p + begin);
    encode(DynamicCoder::with_sign(), moment, size, m.from(begin));
  });
}

static void run(const Cpu& cpu, const AdamW& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State& v, float* p) {
               const AdamWFactors by(k, piece);
               if (m.floats != nullptr) return update_adamw<false>(by, count, g, m.floats, v.floats, p);
               adamw_8bit(by, count, g, m.codes, v.codes, p);
             });
}

static void run(const Cpu& cpu, const Sgd& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               update_sgd(k, piece, count, g, m.floats, p);
             });
}

static void run(const Cpu& cpu, const Lion& k) {
  for_shares(cpu.pool, k.pieces,
             [&](const UpdatePiece& piece, int64_t count, const float* g, const State& m, const State&, float* p) {
               const LionFactors by(k, piece);
               if (m.floats != nullptr) return update_lion(by, count, g, m.floats, p);
               lion_8bit(by, count, g, m.codes, p);
             });
}
