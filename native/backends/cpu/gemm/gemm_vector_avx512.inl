// Sixteen fp32 values in one AVX-512 register. Included inside a target region and a namespace of its own; the AVX2
// file offers the same functions on two registers, and the fp32 kernels are written once against them.

#define LOWRANK_UNROLL _Pragma("GCC unroll 16")

using Vec = __m512;

inline __mmask16 first_mask(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }

inline Vec zero() { return _mm512_setzero_ps(); }
inline Vec broadcast(float value) { return _mm512_set1_ps(value); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
// In an order that is written out: a compiler may choose another for the reductions that it has.
inline float sum(Vec v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// The first `count` values (1 to 16), zeros after them.
inline Vec load_first(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first_mask(count), p); }
inline void store_first(float* p, Vec v, int64_t count) { _mm512_mask_storeu_ps(p, first_mask(count), v); }

inline Vec widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
inline __m256i load16_first(const void* p, int64_t count) { return _mm256_maskz_loadu_epi16(first_mask(count), p); }

inline Vec load_bf16(const uint16_t* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load_bf16_first(const uint16_t* p, int64_t count) { return widen_bf16(load16_first(p, count)); }
inline Vec load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load_f16_first(const uint16_t* p, int64_t count) { return _mm512_cvtph_ps(load16_first(p, count)); }

#if LOWRANK_GEMM_BF16
inline __m256i narrow_bf16(Vec v) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)); }
#else
// To nearest even; a NaN stays a NaN.
inline __m256i narrow_bf16(Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
#endif
inline void store_bf16(uint16_t* p, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(v)); }
inline void store_bf16(uint16_t* p, Vec low, Vec high) {
#if LOWRANK_GEMM_BF16
  _mm512_storeu_si512(p, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
#else
  store_bf16(p, low);
  store_bf16(p + 16, high);
#endif
}
inline void store_bf16_first(uint16_t* p, Vec v, int64_t count) {
  _mm256_mask_storeu_epi16(p, first_mask(count), narrow_bf16(v));
}

inline Vec from_i8(__m128i codes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)); }

// Sixteen 4-bit codes, one in the low (shift 0) or high (shift 4) nibble of each byte, to their values. The permutation
// ignores all index bits above the fourth.
using CodeTable = __m512;
inline CodeTable code_table(const WeightView& w) { return _mm512_loadu_ps(w.values); }
template <int kShift>
inline Vec code_values(CodeTable table, const uint8_t* codes) {
  __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  if constexpr (kShift != 0) index = _mm512_srli_epi32(index, kShift);
  return _mm512_permutexvar_ps(index, table);
}

// table[index[i]] of sixteen bytes.
inline Vec floats_at(const float* table, const uint8_t* index) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(index)));
  return _mm512_i32gather_ps(wide, table, sizeof(float));
}

// The two fp16 numbers at `p` and at every `stride` bytes from there, `count` (1 to 16) of each; zeros after them.
inline void halves_at(const uint8_t* p, int64_t stride, int64_t count, Vec& first, Vec& second) {
  const __m512i step = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i index = _mm512_mullo_epi32(step, _mm512_set1_epi32(static_cast<int>(stride)));
  const __m512i pairs = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), first_mask(count), index, p, 1);
  first = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
  second = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)));
}

// Row i, element j to row j, element i.
inline void transpose(Vec (&v)[16]) {
  Vec t[16];
  LOWRANK_UNROLL
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[i], v[i + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[i], v[i + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2], v[i + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2], v[i + 3]));
    t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  LOWRANK_UNROLL
  for (int i = 0; i < 4; ++i) {  // t[4 q + i] holds columns i, 4 + i, 8 + i, 12 + i of rows 4 q .. 4 q + 3
    const Vec a = _mm512_shuffle_f32x4(t[i], t[4 + i], 0x88);
    const Vec b = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0x88);
    const Vec c = _mm512_shuffle_f32x4(t[i], t[4 + i], 0xdd);
    const Vec d = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0xdd);
    v[i] = _mm512_shuffle_f32x4(a, b, 0x88);
    v[4 + i] = _mm512_shuffle_f32x4(c, d, 0x88);
    v[8 + i] = _mm512_shuffle_f32x4(a, b, 0xdd);
    v[12 + i] = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}
