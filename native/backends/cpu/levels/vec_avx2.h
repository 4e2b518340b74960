// Eight fp32 lanes for AVX2 with FMA and F16C: the vocabulary that the kernels of this folder are written in. To be
// included inside a target region and an ISA-named namespace, after <immintrin.h> and the standard headers.

#define LOWRANK_INLINE inline __attribute__((always_inline))
#define LOWRANK_INLINE_LAMBDA __attribute__((always_inline))

using V = __m256;
using Mask = __m256;  // all bits of a lane set or clear
inline constexpr int64_t W = 8;
/// Vectors per row of a register tile, next to six rows of accumulators.
inline constexpr int kTileVectors = 2;
/// Steps of a register tile that are written out: with few products to a step, a loop over them is felt.
inline constexpr int kTileSteps = 4;

static LOWRANK_INLINE __m256i lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
static LOWRANK_INLINE __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane_numbers());
}

static LOWRANK_INLINE V load(const float* p) { return _mm256_loadu_ps(p); }
static LOWRANK_INLINE V load(const float* p, int64_t count) { return _mm256_maskload_ps(p, first_lanes(count)); }
static LOWRANK_INLINE void store(float* p, V a) { _mm256_storeu_ps(p, a); }
static LOWRANK_INLINE void store(float* p, V a, int64_t count) { _mm256_maskstore_ps(p, first_lanes(count), a); }

static LOWRANK_INLINE V widen_bf16(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
/// There are no masked 16-bit loads below AVX-512: through memory.
static LOWRANK_INLINE __m128i load_halves(const void* p, int64_t count) {
  alignas(16) uint16_t halves[8] = {};
  std::memcpy(halves, p, static_cast<size_t>(count) * 2);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(halves));
}
static LOWRANK_INLINE V load(const Bf16* p) { return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
static LOWRANK_INLINE V load(const Bf16* p, int64_t count) { return widen_bf16(load_halves(p, count)); }
static LOWRANK_INLINE __m128i narrow_bf16(V a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
static LOWRANK_INLINE void store(Bf16* p, V a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(a)); }
static LOWRANK_INLINE void store(Bf16* p, V a, int64_t count) {
  alignas(16) uint16_t halves[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(halves), narrow_bf16(a));
  std::memcpy(p, halves, static_cast<size_t>(count) * 2);
}
static LOWRANK_INLINE V load(const F16* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static LOWRANK_INLINE V load(const F16* p, int64_t count) { return _mm256_cvtph_ps(load_halves(p, count)); }

static LOWRANK_INLINE V zero() { return _mm256_setzero_ps(); }
static LOWRANK_INLINE V set1(float a) { return _mm256_set1_ps(a); }
static LOWRANK_INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
static LOWRANK_INLINE V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static LOWRANK_INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
static LOWRANK_INLINE V div(V a, V b) { return _mm256_div_ps(a, b); }
template <bool>
static LOWRANK_INLINE V reciprocal(V a) {
  return _mm256_div_ps(_mm256_set1_ps(1.0f), a);
}
static LOWRANK_INLINE V sqrt(V a) { return _mm256_sqrt_ps(a); }
/// The second operand when either is NaN.
static LOWRANK_INLINE V max(V a, V b) { return _mm256_max_ps(a, b); }
static LOWRANK_INLINE V min(V a, V b) { return _mm256_min_ps(a, b); }
static LOWRANK_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }    // a b + c
static LOWRANK_INLINE V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
static LOWRANK_INLINE V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }    // a b - c
static LOWRANK_INLINE V round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static LOWRANK_INLINE V where(Mask mask, V a) { return _mm256_and_ps(mask, a); }             // mask ? a : 0
static LOWRANK_INLINE V where(Mask mask, V a, V b) { return _mm256_blendv_ps(b, a, mask); }  // mask ? a : b
static LOWRANK_INLINE Mask lanes_from(int64_t first) {
  const int clamped = first <= 0 ? 0 : first >= W ? static_cast<int>(W) : static_cast<int>(first);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(lane_numbers(), _mm256_set1_epi32(clamped - 1)));
}
static LOWRANK_INLINE Mask lanes_below(int64_t count) { return _mm256_castsi256_ps(first_lanes(count)); }
static LOWRANK_INLINE Mask not_below(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_NLT_UQ); }  // a >= b or NaN
static LOWRANK_INLINE Mask equal(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
/// a * 2^n for whole n up to 127, where a is near one; 0 for n below -125.
static LOWRANK_INLINE V scale_by_power(V a, V n) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const V scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), shifted));
  return where(not_below(n, set1(-125.0f)), scaled);
}
static LOWRANK_INLINE bool all(Mask mask) { return _mm256_movemask_ps(mask) == 0xff; }

static LOWRANK_INLINE float sum(V a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static LOWRANK_INLINE float largest(V a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/// Adds the squares of the lanes to four sums in double.
using Doubles = __m256d;
static LOWRANK_INLINE Doubles no_doubles() { return _mm256_setzero_pd(); }
static LOWRANK_INLINE Doubles add_squares(V a, Doubles sums) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
  return _mm256_fmadd_pd(high, high, _mm256_fmadd_pd(low, low, sums));
}
static LOWRANK_INLINE double sum(Doubles a) {
  const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

/// table[codes[i]], and the codes that a coder finds for numbers within [-1, 1].
static LOWRANK_INLINE V look_up(const float* table, const uint8_t* codes) {
  return _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes))), 4);
}
static LOWRANK_INLINE void find_codes(const DynamicCoder& coder, V x, uint8_t* codes) {
  const __m256i bits = _mm256_castps_si256(x), magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i above = _mm256_sub_epi32(magnitude, _mm256_set1_epi32(static_cast<int>(DynamicCoder::kBeforeFirst)));
  const __m256i bin = _mm256_srli_epi32(_mm256_max_epi32(above, _mm256_setzero_si256()), DynamicCoder::kShift);
  const __m256i negative = _mm256_and_si256(_mm256_srai_epi32(bits, 31), _mm256_set1_epi32(DynamicCoder::kBins));
  const auto* const words = reinterpret_cast<const int*>(coder.lowest());
  const __m256i low =
      _mm256_and_si256(_mm256_i32gather_epi32(words, _mm256_add_epi32(bin, negative), 1), _mm256_set1_epi32(0xff));
  const __m256 next = _mm256_cmp_ps(x, _mm256_i32gather_ps(coder.borders(), low, 4), _CMP_GT_OQ);
  const __m256i code = _mm256_sub_epi32(low, _mm256_castps_si256(next));
  const __m128i words16 = _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(codes), _mm_packus_epi16(words16, words16));
}

/// Transposes 8 x 8 words held in eight vectors.
static LOWRANK_INLINE void transpose(V* r) {
  V t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

// ---- the dropout hash of ops_common.h, eight draws of consecutive elements from an even index on
using Counter = __m256i;
static LOWRANK_INLINE Counter counter_at(uint64_t first_pair) {  // base + pair * step of the first pair
  alignas(32) uint64_t lanes[4];
  for (uint64_t i = 0; i < 4; ++i) lanes[i] = first_pair + i * kHashStep;
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
}
static LOWRANK_INLINE Counter advance(Counter counter) {
  constexpr uint64_t kSteps = 4 * kHashStep;
  return _mm256_add_epi64(counter, _mm256_set1_epi64x(static_cast<long long>(kSteps)));
}
static LOWRANK_INLINE __m256i multiply_64(__m256i a, uint64_t factor) {
  const __m256i b = _mm256_set1_epi64x(static_cast<long long>(factor)), b_high = _mm256_srli_epi64(b, 32);
  const __m256i cross = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(a, 32), b), _mm256_mul_epu32(a, b_high));
  return _mm256_add_epi64(_mm256_mul_epu32(a, b), _mm256_slli_epi64(cross, 32));
}
static LOWRANK_INLINE Mask kept(Counter counter, uint32_t threshold) {
  __m256i x = counter;
  x = multiply_64(_mm256_xor_si256(x, _mm256_srli_epi64(x, 30)), kHashMultiply1);
  x = multiply_64(_mm256_xor_si256(x, _mm256_srli_epi64(x, 27)), kHashMultiply2);
  x = _mm256_xor_si256(x, _mm256_srli_epi64(x, 31));
  const __m256i limit = _mm256_set1_epi32(static_cast<int>(threshold));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(x, limit), x));
}
