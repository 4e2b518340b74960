// Sixteen fp32 values in two AVX2 registers: the same functions as the AVX-512 file.

#define LOWRANK_UNROLL _Pragma("GCC unroll 16")

struct Vec {
  __m256 lo, hi;
};

inline Vec zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Vec broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline Vec mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline float sum(Vec v) {
  const __m256 eight = _mm256_add_ps(v.lo, v.hi);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// The first `count` values (1 to 16), zeros after them.
inline Vec load_first(const float* p, int64_t count) {
  alignas(32) float all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(float));
  return load(all);
}
inline void store_first(float* p, Vec v, int64_t count) {
  alignas(32) float all[16];
  store(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(float));
}

inline __m128i load_eight(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m256 widen_bf16(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }

inline Vec load_bf16(const uint16_t* p) { return {widen_bf16(load_eight(p)), widen_bf16(load_eight(p + 8))}; }
inline Vec load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(load_eight(p)), _mm256_cvtph_ps(load_eight(p + 8))}; }
inline Vec load_bf16_first(const uint16_t* p, int64_t count) {
  uint16_t all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return load_bf16(all);
}
inline Vec load_f16_first(const uint16_t* p, int64_t count) {
  uint16_t all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return load_f16(all);
}

// To nearest even; a NaN stays a NaN.
inline __m256i round_bf16(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  return _mm256_srli_epi32(_mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), quiet, nan)), 16);
}
inline void store_bf16(uint16_t* p, Vec v) {
  const __m256i packed = _mm256_packus_epi32(round_bf16(v.lo), round_bf16(v.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline void store_bf16(uint16_t* p, Vec low, Vec high) {
  store_bf16(p, low);
  store_bf16(p + 16, high);
}
inline void store_bf16_first(uint16_t* p, Vec v, int64_t count) {
  uint16_t all[16];
  store_bf16(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(uint16_t));
}

inline Vec from_i8(__m128i codes) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)))};
}

// Sixteen 4-bit codes, one in the low (shift 0) or high (shift 4) nibble of each byte, to their values: each half of
// the table is looked up with the three low bits, the fourth chooses.
struct CodeTable {
  __m256 lo, hi;
};
inline CodeTable code_table(const WeightView& w) { return {_mm256_loadu_ps(w.values), _mm256_loadu_ps(w.values + 8)}; }
inline __m256 code_lookup(CodeTable table, __m256i index) {
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.lo, index), _mm256_permutevar8x32_ps(table.hi, index),
                          _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
template <int kShift>
inline Vec code_values(CodeTable table, const uint8_t* codes) {
  __m256i lo = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  __m256i hi = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + 8)));
  if constexpr (kShift != 0) {
    lo = _mm256_srli_epi32(lo, kShift);
    hi = _mm256_srli_epi32(hi, kShift);
  }
  return {code_lookup(table, lo), code_lookup(table, hi)};
}

// table[index[i]] of sixteen bytes.
inline Vec floats_at(const float* table, const uint8_t* index) {
  const auto eight = [&](const uint8_t* p) {
    return _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
                               sizeof(float));
  };
  return {eight(index), eight(index + 8)};
}

// The two fp16 numbers at `p` and at every `stride` bytes from there, `count` (1 to 16) of each; zeros after them.
inline void halves_at(const uint8_t* p, int64_t stride, int64_t count, Vec& first, Vec& second) {
  uint16_t firsts[16] = {}, seconds[16] = {};
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(firsts + i, p + i * stride, sizeof(uint16_t));
    std::memcpy(seconds + i, p + i * stride + 2, sizeof(uint16_t));
  }
  first = load_f16(firsts);
  second = load_f16(seconds);
}

inline void transpose8(const __m256 (&v)[8], __m256 (&out)[8]) {
  __m256 t[8];
  LOWRANK_UNROLL
  for (int i = 0; i < 8; i += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(v[i], v[i + 1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(v[i], v[i + 1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(v[i + 2], v[i + 3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(v[i + 2], v[i + 3]));
    t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
  LOWRANK_UNROLL
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
    out[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
  }
}

// Row i, element j to row j, element i.
inline void transpose(Vec (&v)[16]) {
  Vec t[16];
  LOWRANK_UNROLL
  for (int half = 0; half < 2; ++half) {  // rows 0..7 give the low halves of all columns, rows 8..15 the high halves
    __m256 in[8], out[8];
    LOWRANK_UNROLL
    for (int i = 0; i < 8; ++i) in[i] = v[8 * half + i].lo;
    transpose8(in, out);
    LOWRANK_UNROLL
    for (int i = 0; i < 8; ++i) (half == 0 ? t[i].lo : t[i].hi) = out[i];
    LOWRANK_UNROLL
    for (int i = 0; i < 8; ++i) in[i] = v[8 * half + i].hi;
    transpose8(in, out);
    LOWRANK_UNROLL
    for (int i = 0; i < 8; ++i) (half == 0 ? t[8 + i].lo : t[8 + i].hi) = out[i];
  }
  LOWRANK_UNROLL
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}
