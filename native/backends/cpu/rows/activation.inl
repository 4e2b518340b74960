// Activations over vectors: each has its value, and its value and slope, which for results in bf16 may be less exact.
#pragma once

/// An activation and its derivative.
struct Slope {
  V value, slope;
};

struct Silu {
  template <bool kForBf16>
  static LOWRANK_INLINE V value(V a) {
    return mul(a, sigmoid<kForBf16>(a));
  }
  template <bool kForBf16>
  static LOWRANK_INLINE Slope slope(V a) {
    const V s = sigmoid<kForBf16>(a);
    const V value = mul(a, s);
    return {value, fma(value, sub(set1(1.0f), s), s)};  // s + a s (1 - s)
  }
};

/// (1 + tanh(z)) / 2 is sigmoid(2 z): 2 z is a (kGelu1 + kGelu3 a^2).
struct Gelu {
  static constexpr float kGelu1 = 1.5957691216057308f, kGelu3 = 1.5957691216057308f * 0.044715f;
  template <bool kForBf16>
  static LOWRANK_INLINE V value(V a) {
    return mul(a, sigmoid<kForBf16>(mul(a, fma(set1(kGelu3), mul(a, a), set1(kGelu1)))));
  }
  template <bool kForBf16>
  static LOWRANK_INLINE Slope slope(V a) {
    const V square = mul(a, a);
    const V twice = mul(a, fma(set1(kGelu3), square, set1(kGelu1)));
    const V s = sigmoid<kForBf16>(twice);
    // s (1 - s) times a^3 would be far off for large a if 1 - s were the difference of rounded numbers.
    const V e = exp_below(min(twice, sub(zero(), twice))), p = reciprocal<kForBf16>(add(set1(1.0f), e));
    const V spread = mul(mul(e, p), p);
    return {mul(a, s), fma(mul(a, spread), fma(set1(3 * kGelu3), square, set1(kGelu1)), s)};
  }
};

struct Sigmoid {
  template <bool kForBf16>
  static LOWRANK_INLINE V value(V a) {
    return sigmoid<kForBf16>(a);
  }
  template <bool kForBf16>
  static LOWRANK_INLINE Slope slope(V a) {
    const V s = sigmoid<kForBf16>(a);
    return {s, mul(s, sigmoid<kForBf16>(sub(zero(), a)))};
  }
};

struct Relu2 {
  template <bool kForBf16>
  static LOWRANK_INLINE V value(V a) {
    const V above = max(zero(), a);
    return mul(above, above);
  }
  template <bool kForBf16>
  static LOWRANK_INLINE Slope slope(V a) {
    const V above = max(zero(), a);
    return {mul(above, above), add(above, above)};
  }
};

/// body(activation)
template <class Body>
static void with_activation(Activation function, Body&& body) {
  switch (function) {
    case Activation::silu:
      return body(Silu());
    case Activation::gelu:
      return body(Gelu());
    case Activation::sigmoid:
      return body(Sigmoid());
    case Activation::relu2:
      return body(Relu2());
  }
}
