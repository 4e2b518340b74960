// The updates of optimizers, element by element. Included by ops_simd.inl.

static double sum_of_squares(Pool& pool, int64_t count, const float* x) {
  return sum_chunks(pool, count, [x](int64_t begin, int64_t end) {
    Doubles even = no_doubles(), odd = no_doubles();
    int64_t i = begin;
    for (; i + 2 * W <= end; i += 2 * W) {
      even = add_squares(load(x + i), even);
      odd = add_squares(load(x + i + W), odd);
    }
    for_vectors(i, end, [&](int64_t at, auto lanes) { even = add_squares(load(x + at, lanes), even); });
    return sum(even) + sum(odd);
  });
}

/// Factors of an AdamW update.
struct AdamWFactors {
  V b1, b2, c1, c2, step, decay, root, epsilon, grad_scale;

  explicit AdamWFactors(const AdamW& options)
      : b1(set1(options.beta1)),
        b2(set1(options.beta2)),
        c1(set1(static_cast<float>(1.0 - static_cast<double>(options.beta1)))),
        c2(set1(static_cast<float>(1.0 - static_cast<double>(options.beta2)))),
        step(set1(static_cast<float>(options.learning_rate / (1.0 - power(options.beta1, options.step))))),
        decay(set1(static_cast<float>(1.0 - static_cast<double>(options.learning_rate) * options.weight_decay))),
        root(set1(static_cast<float>(1.0 / std::sqrt(1.0 - power(options.beta2, options.step))))),
        epsilon(set1(options.epsilon)),
        grad_scale(set1(options.grad_scale)) {}

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

static void adamw(int64_t count, const AdamW& options, const float* grad, float* m, float* v, float* p) {
  update_adamw<false>(AdamWFactors(options), count, grad, m, v, p);
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

static void adamw_8bit(int64_t count, const AdamW& options, const float* grad, const DynamicCodes& m,
                       const DynamicCodes& root_v, float* p) {
  const AdamWFactors by(options);
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    alignas(64) float first[kDynamicBlock], root[kDynamicBlock];
    decode(DynamicCoder::with_sign(), m.from(begin), size, first);
    decode(DynamicCoder::without_sign(), root_v.from(begin), size, root);
    update_adamw<true>(by, size, grad + begin, first, root, p + begin);
    encode(DynamicCoder::with_sign(), first, size, m.from(begin));
    encode(DynamicCoder::without_sign(), root, size, root_v.from(begin));
  });
}

static void sgd(int64_t count, const Sgd& options, const float* grad, float* m, float* p) {
  const V rate = set1(options.learning_rate), momentum = set1(options.momentum), decay = set1(options.weight_decay);
  const V grad_scale = set1(options.grad_scale);
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

  explicit LionFactors(const Lion& options)
      : b1(set1(options.beta1)),
        b2(set1(options.beta2)),
        c1(set1(static_cast<float>(1.0 - static_cast<double>(options.beta1)))),
        c2(set1(static_cast<float>(1.0 - static_cast<double>(options.beta2)))),
        rate(set1(options.learning_rate)),
        decay(set1(static_cast<float>(1.0 - static_cast<double>(options.learning_rate) * options.weight_decay))),
        grad_scale(set1(options.grad_scale)) {}
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

static void lion(int64_t count, const Lion& options, const float* grad, float* m, float* p) {
  update_lion(LionFactors(options), count, grad, m, p);
}

static void lion_8bit(int64_t count, const Lion& options, const float* grad, const DynamicCodes& m, float* p) {
  const LionFactors by(options);
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    alignas(64) float moment[kDynamicBlock];
    decode(DynamicCoder::with_sign(), m.from(begin), size, moment);
    update_lion(by, size, grad + begin, moment, p + begin);
    encode(DynamicCoder::with_sign(), moment, size, m.from(begin));
  });
}
