// Sixteen fp32 lanes for AVX-512 (F, BW, DQ, VL): the vocabulary that the kernels of this folder are written in. To be
// included inside a target region and an ISA-named namespace, after <immintrin.h> and the standard headers.
// LOWRANK_VEC_BF16 says whether the region also has AVX512-BF16.

#define LOWRANK_INLINE inline __attribute__((always_inline))
#define LOWRANK_INLINE_LAMBDA __attribute__((always_inline))

using V = __m512;
using Mask = __mmask16;
inline constexpr int64_t W = 16;
/// Vectors per row of a register tile, next to six rows of accumulators.
inline constexpr int kTileVectors = 4;
/// Steps of a register tile that are written out.
inline constexpr int kTileSteps = 1;

static LOWRANK_INLINE Mask first_lanes(int64_t count) { return static_cast<Mask>((1u << count) - 1u); }

static LOWRANK_INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
static LOWRANK_INLINE V load(const float* p, int64_t count) { return _mm512_maskz_loadu_ps(first_lanes(count), p); }
static LOWRANK_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a); }
static LOWRANK_INLINE void store(float* p, V a, int64_t count) { _mm512_mask_storeu_ps(p, first_lanes(count), a); }

static LOWRANK_INLINE V widen_bf16(__m256i half) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static LOWRANK_INLINE V load(const Bf16* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static LOWRANK_INLINE V load(const Bf16* p, int64_t count) {
  return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}
static LOWRANK_INLINE __m256i narrow_bf16(V a) {
#if LOWRANK_VEC_BF16
  return (__m256i)_mm512_cvtneps_pbh(a);
#else
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), quiet));
#endif
}
static LOWRANK_INLINE void store(Bf16* p, V a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(a)); }
static LOWRANK_INLINE void store(Bf16* p, V a, int64_t count) {
  _mm256_mask_storeu_epi16(p, first_lanes(count), narrow_bf16(a));
}
static LOWRANK_INLINE V load(const F16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static LOWRANK_INLINE V load(const F16* p, int64_t count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count), p));
}

static LOWRANK_INLINE V zero() { return _mm512_setzero_ps(); }
static LOWRANK_INLINE V set1(float a) { return _mm512_set1_ps(a); }
static LOWRANK_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
static LOWRANK_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static LOWRANK_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static LOWRANK_INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
/// 1 / a to about 1e-7 relative by one Newton step, or 6e-5 without: a division takes sixteen cycles.
template <bool kForBf16>
static LOWRANK_INLINE V reciprocal(V a) {
  const V r = _mm512_rcp14_ps(a);
  if constexpr (kForBf16) return r;
  return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(a, r, _mm512_set1_ps(1.0f)), r);
}
static LOWRANK_INLINE V sqrt(V a) { return _mm512_sqrt_ps(a); }
/// The second operand when either is NaN.
static LOWRANK_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
static LOWRANK_INLINE V min(V a, V b) { return _mm512_min_ps(a, b); }
static LOWRANK_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
static LOWRANK_INLINE V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
static LOWRANK_INLINE V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }    // a b - c
static LOWRANK_INLINE V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// a * 2^n for whole n; 0 for n far below.
static LOWRANK_INLINE V scale_by_power(V a, V n) { return _mm512_scalef_ps(a, n); }
static LOWRANK_INLINE V where(Mask mask, V a) { return _mm512_maskz_mov_ps(mask, a); }         // mask ? a : 0
static LOWRANK_INLINE V where(Mask mask, V a, V b) { return _mm512_mask_mov_ps(b, mask, a); }  // mask ? a : b
static LOWRANK_INLINE Mask lanes_from(int64_t first) {
  return first <= 0 ? 0xffff : first >= W ? 0 : static_cast<Mask>(0xffffu << first);
}
static LOWRANK_INLINE Mask lanes_below(int64_t count) { return first_lanes(count); }
static LOWRANK_INLINE Mask not_below(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }  // a >= b or NaN
static LOWRANK_INLINE Mask equal(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static LOWRANK_INLINE bool all(Mask mask) { return mask == 0xffff; }

/// In an order that is written out: a compiler may choose another for the reductions that it has.
static LOWRANK_INLINE float sum(V a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static LOWRANK_INLINE float largest(V a) { return _mm512_reduce_max_ps(a); }
/// Adds the squares of the lanes to eight sums in double.
using Doubles = __m512d;
static LOWRANK_INLINE Doubles no_doubles() { return _mm512_setzero_pd(); }
static LOWRANK_INLINE Doubles add_squares(V a, Doubles sums) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
  return _mm512_fmadd_pd(high, high, _mm512_fmadd_pd(low, low, sums));
}
static LOWRANK_INLINE double sum(Doubles a) {
  const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
  const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

/// table[codes[i]], and the codes that a coder finds for numbers within [-1, 1].
static LOWRANK_INLINE V look_up(const float* table, const uint8_t* codes) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  return _mm512_i32gather_ps(wide, table, 4);
}
static LOWRANK_INLINE void find_codes(const DynamicCoder& coder, V x, uint8_t* codes) {
  const __m512i bits = _mm512_castps_si512(x), magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __m512i above = _mm512_sub_epi32(magnitude, _mm512_set1_epi32(static_cast<int>(DynamicCoder::kBeforeFirst)));
  const __m512i bin = _mm512_srli_epi32(_mm512_max_epi32(above, _mm512_setzero_si512()), DynamicCoder::kShift);
  const __m512i negative = _mm512_and_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(DynamicCoder::kBins));
  const __m512i low = _mm512_and_si512(_mm512_i32gather_epi32(_mm512_add_epi32(bin, negative), coder.lowest(), 1),
                                       _mm512_set1_epi32(0xff));
  const __mmask16 next = _mm512_cmp_ps_mask(x, _mm512_i32gather_ps(low, coder.borders(), 4), _CMP_GT_OQ);
  const __m512i code = _mm512_mask_add_epi32(low, next, low, _mm512_set1_epi32(1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(code));
}

/// Transposes 16 x 16 words held in sixteen vectors.
static LOWRANK_INLINE void transpose(V* r) {
  V t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
    u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // u[4 b + i]: block c of it holds column 4 c + i of rows 4 b .. 4 b + 3
    const V a = _mm512_shuffle_f32x4(u[i], u[4 + i], 0x88), b = _mm512_shuffle_f32x4(u[i], u[4 + i], 0xdd);
    const V c = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0x88), d = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0xdd);
    r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
    r[8 + i] = _mm512_shuffle_f32x4(a, c, 0xdd);
    r[4 + i] = _mm512_shuffle_f32x4(b, d, 0x88);
    r[12 + i] = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

// ---- the dropout hash of ops_common.h, sixteen draws of consecutive elements from an even index on
using Counter = __m512i;
static LOWRANK_INLINE Counter counter_at(uint64_t first_pair) {  // base + pair * step of the first pair
  alignas(64) uint64_t lanes[8];
  for (uint64_t i = 0; i < 8; ++i) lanes[i] = first_pair + i * kHashStep;
  return _mm512_load_si512(lanes);
}
static LOWRANK_INLINE Counter advance(Counter counter) {
  constexpr uint64_t kSteps = 8 * kHashStep;
  return _mm512_add_epi64(counter, _mm512_set1_epi64(static_cast<long long>(kSteps)));
}
static LOWRANK_INLINE Mask kept(Counter counter, uint32_t threshold) {
  __m512i x = counter;
  x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 30)),
                         _mm512_set1_epi64(static_cast<long long>(kHashMultiply1)));
  x = _mm512_mullo_epi64(_mm512_xor_si512(x, _mm512_srli_epi64(x, 27)),
                         _mm512_set1_epi64(static_cast<long long>(kHashMultiply2)));
  x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
  return _mm512_cmpge_epu32_mask(x, _mm512_set1_epi32(static_cast<int>(threshold)));
}

#if LOWRANK_VEC_BF16
// ---- words that hold two bf16 values each, as the dot instruction wants them
static LOWRANK_INLINE V interleave(__m256i low, __m256i high) {
  return _mm512_castsi512_ps(
      _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
}
/// Word i = (low[i], high[i]) from two rows; `high` may be null and counts as zeros.
static LOWRANK_INLINE V pairs(const Bf16* low, const Bf16* high, int64_t count) {
  const Mask lanes = first_lanes(count);
  return interleave(_mm256_maskz_loadu_epi16(lanes, low),
                    high != nullptr ? _mm256_maskz_loadu_epi16(lanes, high) : _mm256_setzero_si256());
}
/// Two vectors rounded to bf16: the first in the lower sixteen halves.
static LOWRANK_INLINE __m512i round_both(V low, V high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
static LOWRANK_INLINE V pairs(__m512i both) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
}
static LOWRANK_INLINE void store_both(Bf16* low, Bf16* high, __m512i both) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_castsi512_si256(both));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(both, 1));
}
/// sum + low low + high high of every word.
static LOWRANK_INLINE V dot_pairs(V a, V b, V sum) {
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
#endif
