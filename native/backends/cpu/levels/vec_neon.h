// Four fp32 lanes for Advanced SIMD (NEON) of AArch64: the vocabulary that the kernels of this folder are written in.
// To be included inside an ISA-named namespace, after <arm_neon.h> and the standard headers. LOWRANK_VEC_BF16 says
// whether the region also has bf16 products.

#define LOWRANK_INLINE inline __attribute__((always_inline))
#define LOWRANK_INLINE_LAMBDA __attribute__((always_inline))

using V = float32x4_t;
using Mask = uint32x4_t;  // all bits of a lane set or clear
inline constexpr int64_t W = 4;
/// Vectors per row of a register tile, next to six rows of accumulators.
inline constexpr int kTileVectors = 4;
/// Steps of a register tile that are written out.
inline constexpr int kTileSteps = 1;

static LOWRANK_INLINE int32x4_t lane_numbers() { return int32x4_t{0, 1, 2, 3}; }
static LOWRANK_INLINE int32_t clamped_lane(int64_t lane) {
  return static_cast<int32_t>(lane < 0 ? 0 : lane > W ? W : lane);
}

static LOWRANK_INLINE V load(const float* p) { return vld1q_f32(p); }
/// There are no masked loads and stores: through memory.
static LOWRANK_INLINE V load(const float* p, int64_t count) {
  float lanes[W] = {};
  std::memcpy(lanes, p, static_cast<size_t>(count) * 4);
  return vld1q_f32(lanes);
}
static LOWRANK_INLINE void store(float* p, V a) { vst1q_f32(p, a); }
static LOWRANK_INLINE void store(float* p, V a, int64_t count) {
  float lanes[W];
  vst1q_f32(lanes, a);
  std::memcpy(p, lanes, static_cast<size_t>(count) * 4);
}

static LOWRANK_INLINE uint16x4_t load_halves(const void* p, int64_t count = W) {
  uint16_t halves[W] = {};
  std::memcpy(halves, p, static_cast<size_t>(count) * 2);
  return vld1_u16(halves);
}
static LOWRANK_INLINE V widen_bf16(uint16x4_t half) { return vreinterpretq_f32_u32(vshll_n_u16(half, 16)); }
static LOWRANK_INLINE V load(const Bf16* p) { return widen_bf16(load_halves(p)); }
static LOWRANK_INLINE V load(const Bf16* p, int64_t count) { return widen_bf16(load_halves(p, count)); }
static LOWRANK_INLINE uint16x4_t narrow_bf16(V a) {
#if LOWRANK_VEC_BF16
  return vreinterpret_u16_bf16(vcvt_bf16_f32(a));
#else
  const uint32x4_t bits = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet), 16);
#endif
}
static LOWRANK_INLINE void store(Bf16* p, V a, int64_t count = W) {
  uint16_t halves[W];
  vst1_u16(halves, narrow_bf16(a));
  std::memcpy(p, halves, static_cast<size_t>(count) * 2);
}
static LOWRANK_INLINE V widen_f16(uint16x4_t half) { return vcvt_f32_f16(vreinterpret_f16_u16(half)); }
static LOWRANK_INLINE V load(const F16* p) { return widen_f16(load_halves(p)); }
static LOWRANK_INLINE V load(const F16* p, int64_t count) { return widen_f16(load_halves(p, count)); }

static LOWRANK_INLINE V zero() { return vdupq_n_f32(0); }
static LOWRANK_INLINE V set1(float a) { return vdupq_n_f32(a); }
static LOWRANK_INLINE V add(V a, V b) { return vaddq_f32(a, b); }
static LOWRANK_INLINE V sub(V a, V b) { return vsubq_f32(a, b); }
static LOWRANK_INLINE V mul(V a, V b) { return vmulq_f32(a, b); }
static LOWRANK_INLINE V div(V a, V b) { return vdivq_f32(a, b); }
template <bool>
static LOWRANK_INLINE V reciprocal(V a) {
  return vdivq_f32(vdupq_n_f32(1), a);
}
static LOWRANK_INLINE V sqrt(V a) { return vsqrtq_f32(a); }
/// The second operand when either is NaN.
static LOWRANK_INLINE V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static LOWRANK_INLINE V min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static LOWRANK_INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }             // a b + c
static LOWRANK_INLINE V fnma(V a, V b, V c) { return vfmsq_f32(c, a, b); }            // c - a b
static LOWRANK_INLINE V fms(V a, V b, V c) { return vfmaq_f32(vnegq_f32(c), a, b); }  // a b - c
static LOWRANK_INLINE V round(V a) { return vrndnq_f32(a); }
static LOWRANK_INLINE V where(Mask mask, V a) {  // mask ? a : 0
  return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(a)));
}
static LOWRANK_INLINE V where(Mask mask, V a, V b) { return vbslq_f32(mask, a, b); }  // mask ? a : b
static LOWRANK_INLINE Mask lanes_from(int64_t first) {
  return vcgeq_s32(lane_numbers(), vdupq_n_s32(clamped_lane(first)));
}
static LOWRANK_INLINE Mask lanes_below(int64_t count) {
  return vcltq_s32(lane_numbers(), vdupq_n_s32(clamped_lane(count)));
}
static LOWRANK_INLINE Mask not_below(V a, V b) { return vmvnq_u32(vcltq_f32(a, b)); }  // a >= b or NaN
static LOWRANK_INLINE Mask equal(V a, V b) { return vceqq_f32(a, b); }
/// a * 2^n for whole n up to 127, where a is near one; 0 for n below -125.
static LOWRANK_INLINE V scale_by_power(V a, V n) {
  const int32x4_t shifted = vshlq_n_s32(vcvtq_s32_f32(n), 23);
  const V scaled = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), shifted));
  return where(not_below(n, set1(-125.0f)), scaled);
}
static LOWRANK_INLINE bool all(Mask mask) { return vminvq_u32(mask) != 0; }

static LOWRANK_INLINE float sum(V a) { return vaddvq_f32(a); }
static LOWRANK_INLINE float largest(V a) { return vmaxvq_f32(a); }
/// Adds the squares of the lanes to two sums in double.
using Doubles = float64x2_t;
static LOWRANK_INLINE Doubles no_doubles() { return vdupq_n_f64(0); }
static LOWRANK_INLINE Doubles add_squares(V a, Doubles sums) {
  const float64x2_t low = vcvt_f64_f32(vget_low_f32(a)), high = vcvt_high_f64_f32(a);
  return vfmaq_f64(vfmaq_f64(sums, low, low), high, high);
}
static LOWRANK_INLINE double sum(Doubles a) { return vaddvq_f64(a); }

/// table[codes[i]], and the codes that a coder finds for numbers within [-1, 1]. There are no gathers: one by one.
static LOWRANK_INLINE V look_up(const float* table, const uint8_t* codes) {
  return V{table[codes[0]], table[codes[1]], table[codes[2]], table[codes[3]]};
}
static LOWRANK_INLINE void find_codes(const DynamicCoder& coder, V x, uint8_t* codes) {
  float lanes[W];
  vst1q_f32(lanes, x);
  for (int64_t i = 0; i < W; ++i) codes[i] = coder.code(lanes[i]);
}

/// Transposes 4 x 4 words held in four vectors.
static LOWRANK_INLINE void transpose(V* r) {
  const float32x4x2_t even = vtrnq_f32(r[0], r[1]), odd = vtrnq_f32(r[2], r[3]);
  r[0] = vcombine_f32(vget_low_f32(even.val[0]), vget_low_f32(odd.val[0]));
  r[1] = vcombine_f32(vget_low_f32(even.val[1]), vget_low_f32(odd.val[1]));
  r[2] = vcombine_f32(vget_high_f32(even.val[0]), vget_high_f32(odd.val[0]));
  r[3] = vcombine_f32(vget_high_f32(even.val[1]), vget_high_f32(odd.val[1]));
}

// ---- the dropout hash of ops_common.h, four draws of consecutive elements from an even index on. There are no 64-bit
// products of vectors.
using Counter = uint64_t;  // base + pair * step of the first pair
static LOWRANK_INLINE Counter counter_at(uint64_t first_pair) { return first_pair; }
static LOWRANK_INLINE Counter advance(Counter counter) { return counter + 2 * kHashStep; }
static LOWRANK_INLINE Mask kept(Counter counter, uint32_t threshold) {
  const uint64x2_t draws = {hash_mix(counter), hash_mix(counter + kHashStep)};
  return vcgeq_u32(vreinterpretq_u32_u64(draws), vdupq_n_u32(threshold));
}

#if LOWRANK_VEC_BF16
// ---- words that hold two bf16 values each, as the dot instruction wants them
/// Word i = (low[i], high[i]) from two rows; `high` may be null and counts as zeros.
static LOWRANK_INLINE V pairs(const Bf16* low, const Bf16* high, int64_t count) {
  const uint32x4_t lower = vmovl_u16(load_halves(low, count));
  if (high == nullptr) return vreinterpretq_f32_u32(lower);
  return vreinterpretq_f32_u32(vorrq_u32(lower, vshll_n_u16(load_halves(high, count), 16)));
}
/// Two vectors rounded to bf16, one after the other.
static LOWRANK_INLINE uint16x8_t round_both(V low, V high) { return vcombine_u16(narrow_bf16(low), narrow_bf16(high)); }
static LOWRANK_INLINE V pairs(uint16x8_t both) {
  return vreinterpretq_f32_u16(vzip1q_u16(both, vextq_u16(both, both, 4)));
}
static LOWRANK_INLINE void store_both(Bf16* low, Bf16* high, uint16x8_t both) {
  vst1_u16(reinterpret_cast<uint16_t*>(low), vget_low_u16(both));
  vst1_u16(reinterpret_cast<uint16_t*>(high), vget_high_u16(both));
}
/// sum + low low + high high of every word.
static LOWRANK_INLINE V dot_pairs(V a, V b, V sum) {
  return vbfdotq_f32(sum, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b));
}
#endif
