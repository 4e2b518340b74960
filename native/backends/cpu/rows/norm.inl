// Normalization by the root mean square over vectors.
#pragma once

template <class In, class T>
static void rms_norm_of(const Cpu& cpu, const RmsNorm& k) {
  for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
    const In* in = row_as<In>(k.x, row);
    const float* w = host(k.w);
    T* out = row_as<T>(k.y, row);
    const float squares = sum_vectors(k.cols, [&](int64_t i, auto lanes) {
      const V a = load(in + i, lanes);
      return mul(a, a);
    });
    const float r = 1.0f / std::sqrt(squares / static_cast<float>(k.cols) + k.eps);
    const V factor = set1(r);
    for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
      store(out + i, mul(mul(load(in + i, lanes), factor), load(w + i, lanes)), lanes);
    });
    host(k.rstd)[row] = r;
  });
}

static void run(const Cpu& cpu, const RmsNorm& all) {
  for_groups(all, {&RmsNorm::x, &RmsNorm::y}, [&](const RmsNorm& k) {
    with_type(k.y.dtype, [&](auto tag) {
      using T = LOWRANK_ELEMENT(tag);
      if (k.x.dtype == k.y.dtype) return rms_norm_of<T, T>(cpu, k);
      rms_norm_of<float, T>(cpu, k);
    });
  });
}

/// kReplaces: dx is dy, and x as dy.
template <bool kReplaces, class T>
static void rms_norm_backward_of(const Cpu& cpu, const RmsNormBackward& k) {
  using In = std::conditional_t<kReplaces, T, float>;
  for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
    const T* d = row_as<T>(k.dy, row);
    const In* in = row_as<In>(k.x, row);
    const float* w = host(k.w);
    In* out = row_as<In>(k.dx, row);
    const float product = sum_vectors(k.cols, [&](int64_t i, auto lanes) {
      return mul(mul(load(d + i, lanes), load(w + i, lanes)), load(in + i, lanes));
    });
    const float r = host(k.rstd)[row];
    const V factor = set1(r), shrink = set1(r * r * r * product / static_cast<float>(k.cols));
    for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
      const V g = mul(load(d + i, lanes), load(w + i, lanes));
      const V change = fms(factor, g, mul(shrink, load(in + i, lanes)));
      if constexpr (kReplaces) {
        store(out + i, change, lanes);
      } else {
        store(out + i, add(load(out + i, lanes), change), lanes);
      }
    });
  });
}

static void run(const Cpu& cpu, const RmsNormBackward& all) {
  using K = RmsNormBackward;
  for_groups(all, {&K::dy, &K::x, &K::dx}, [&](const K& k) {
    with_type(k.dy.dtype, [&](auto tag) {
      using T = LOWRANK_ELEMENT(tag);
      if (k.dx.data.address() == k.dy.data.address()) return rms_norm_backward_of<true, T>(cpu, k);
      rms_norm_backward_of<false, T>(cpu, k);
    });
  });
}
