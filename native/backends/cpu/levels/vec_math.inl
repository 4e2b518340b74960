// Functions over vectors that need no particular instruction set: exponentials, and loops over rows whose last vector
// is partial. Included after a vec_<isa>.h, in the same region and namespace.

/// Lanes of one step of a loop over a row: all of them, or the first few at its end.
struct Full {};
struct Part {
  int64_t count;
};
template <class T>
static LOWRANK_INLINE V load(const T* p, Full) {
  return load(p);
}
template <class T>
static LOWRANK_INLINE V load(const T* p, Part part) {
  return load(p, part.count);
}
template <class T>
static LOWRANK_INLINE void store(T* p, V a, Full) {
  store(p, a);
}
template <class T>
static LOWRANK_INLINE void store(T* p, V a, Part part) {
  store(p, a, part.count);
}

/// body(index, lanes) over [begin, end) in steps of a vector.
template <class Body>
static LOWRANK_INLINE void for_vectors(int64_t begin, int64_t end, Body&& body) {
  int64_t i = begin;
  for (; i + W <= end; i += W) body(i, Full{});
  if (i < end) body(i, Part{end - i});
}

template <class From, class To>
static LOWRANK_INLINE void convert_row(const From* from, To* to, int64_t cols) {
  for_vectors(0, cols, [&](int64_t i, auto lanes) { store(to + i, load(from + i, lanes), lanes); });
}

/// Sum over [0, count) of value(index, lanes) as four interleaved vector sums; value must be 0 in absent lanes.
template <class Value>
static LOWRANK_INLINE float sum_vectors(int64_t count, Value&& value) {
  V a = zero(), b = zero(), c = zero(), d = zero();
  int64_t i = 0;
  for (; i + 4 * W <= count; i += 4 * W) {
    a = add(a, value(i, Full{}));
    b = add(b, value(i + W, Full{}));
    c = add(c, value(i + 2 * W, Full{}));
    d = add(d, value(i + 3 * W, Full{}));
  }
  for (; i + W <= count; i += W) a = add(a, value(i, Full{}));
  if (i < count) b = add(b, value(i, Part{count - i}));
  return sum(add(add(a, b), add(c, d)));
}

inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// 2^x for finite x up to 126, 0 far below: to about 1e-7 relative, or 3e-6 where the result is rounded to bf16 anyway.
template <bool kForBf16 = false>
static LOWRANK_INLINE V exp2(V x) {
  const V n = round(x);
  const V r = sub(x, n);
  V q;
  if constexpr (kForBf16) {
    q = set1(0.00958285201f);
    q = fma(q, r, set1(0.0559064262f));
    q = fma(q, r, set1(0.240240991f));
    q = fma(q, r, set1(0.693124175f));
  } else {
    q = set1(0.0013264725f);
    q = fma(q, r, set1(0.00967151299f));
    q = fma(q, r, set1(0.0555073358f));
    q = fma(q, r, set1(0.240222424f));
    q = fma(q, r, set1(0.693147004f));
  }
  return scale_by_power(fma(q, r, set1(1.0f)), n);
}

/// e^x for x <= 0: the rounding of x log2(e) costs |x| e^x 2^-24, nothing next to a sum.
static LOWRANK_INLINE V exp_below(V x) { return exp2(max(set1(-150.0f), mul(x, set1(kLog2E)))); }

template <bool kForBf16>
static LOWRANK_INLINE V sigmoid(V x) {
  const V power = min(set1(126.0f), max(set1(-150.0f), mul(x, set1(-kLog2E))));
  return reciprocal<kForBf16>(add(set1(1.0f), exp2<kForBf16>(power)));
}

/// body(row) for rows [0, rows) of `cols` elements, in parallel.
template <class Body>
static void for_rows(Pool& pool, int64_t rows, int64_t cols, Body&& body) {
  pool.for_range(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

/// body(T*{}) with the element type of a f32 or bf16 tensor.
template <class Body>
static void with_type(DType dtype, Body&& body) {
  if (dtype == DType::bf16) {
    body(static_cast<Bf16*>(nullptr));
  } else {
    body(static_cast<float*>(nullptr));
  }
}
#define LOWRANK_ELEMENT(tag) std::remove_pointer_t<decltype(tag)>
/// True where results are rounded to bf16, whose functions need not be more exact.
template <class T>
inline constexpr bool kRounds = std::is_same_v<T, Bf16>;
