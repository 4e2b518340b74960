// Sixteen fp32 values in four NEON registers, and sixteen bytes: the same functions as the AVX files.

#define LOWRANK_UNROLL _Pragma("GCC unroll 16")
// Functions with several registers would be inlined late otherwise, and their operands would stay in memory.
#define LOWRANK_INLINE inline __attribute__((always_inline))
#define LOWRANK_INLINE_LAMBDA __attribute__((always_inline))

// By name and not as an array: what loops index, the compiler keeps in memory.
struct Vec {
  float32x4_t a, b, c, d;
};

LOWRANK_INLINE Vec broadcast(float value) {
  const float32x4_t all = vdupq_n_f32(value);
  return {all, all, all, all};
}
LOWRANK_INLINE Vec zero() { return broadcast(0); }
LOWRANK_INLINE Vec load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
LOWRANK_INLINE void store(float* p, Vec v) {
  vst1q_f32(p, v.a);
  vst1q_f32(p + 4, v.b);
  vst1q_f32(p + 8, v.c);
  vst1q_f32(p + 12, v.d);
}
LOWRANK_INLINE Vec fma(Vec x, Vec y, Vec z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
LOWRANK_INLINE Vec add(Vec x, Vec y) {
  return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
LOWRANK_INLINE Vec mul(Vec x, Vec y) {
  return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
LOWRANK_INLINE float sum(Vec v) { return vaddvq_f32(vaddq_f32(vaddq_f32(v.a, v.b), vaddq_f32(v.c, v.d))); }

// The first `count` values (1 to 16), zeros after them.
LOWRANK_INLINE Vec load_first(const float* p, int64_t count) {
  float all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(float));
  return load(all);
}
LOWRANK_INLINE void store_first(float* p, Vec v, int64_t count) {
  float all[16];
  store(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(float));
}

LOWRANK_INLINE float32x4_t widen_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
LOWRANK_INLINE float32x4_t widen_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
LOWRANK_INLINE Vec load_bf16(const uint16_t* p) {
  return {widen_bf16(p), widen_bf16(p + 4), widen_bf16(p + 8), widen_bf16(p + 12)};
}
LOWRANK_INLINE Vec load_f16(const uint16_t* p) {
  return {widen_f16(p), widen_f16(p + 4), widen_f16(p + 8), widen_f16(p + 12)};
}
LOWRANK_INLINE Vec load_bf16_first(const uint16_t* p, int64_t count) {
  uint16_t all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return load_bf16(all);
}
LOWRANK_INLINE Vec load_f16_first(const uint16_t* p, int64_t count) {
  uint16_t all[16] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return load_f16(all);
}

#if LOWRANK_GEMM_BF16
LOWRANK_INLINE uint16x4_t narrow_bf16(float32x4_t v) { return vreinterpret_u16_bf16(vcvt_bf16_f32(v)); }
#else
// To nearest even; a NaN stays a NaN.
LOWRANK_INLINE uint16x4_t narrow_bf16(float32x4_t v) {
  const uint32x4_t bits = vreinterpretq_u32_f32(v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16);
}
#endif
LOWRANK_INLINE void store_bf16(uint16_t* p, Vec v) {
  vst1q_u16(p, vcombine_u16(narrow_bf16(v.a), narrow_bf16(v.b)));
  vst1q_u16(p + 8, vcombine_u16(narrow_bf16(v.c), narrow_bf16(v.d)));
}
LOWRANK_INLINE void store_bf16(uint16_t* p, Vec low, Vec high) {
  store_bf16(p, low);
  store_bf16(p + 16, high);
}
LOWRANK_INLINE void store_bf16_first(uint16_t* p, Vec v, int64_t count) {
  uint16_t all[16];
  store_bf16(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(uint16_t));
}

// Sixteen 4-bit codes, one in the low (shift 0) or high (shift 4) nibble of each byte, to their values: the table's
// sixteen floats are 64 bytes, looked up four bytes a value.
using CodeTable = uint8x16x4_t;
LOWRANK_INLINE CodeTable code_table(const WeightView& w) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(w.values);
  return {{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
}
template <int kShift>
LOWRANK_INLINE Vec code_values(CodeTable table, const uint8_t* codes) {
  const uint8x16_t bytes = vld1q_u8(codes);
  const uint8x16_t first = vshlq_n_u8(kShift == 0 ? vandq_u8(bytes, vdupq_n_u8(15)) : vshrq_n_u8(bytes, 4), 2);
  const uint8x16_t within = vreinterpretq_u8_u32(vdupq_n_u32(0x03020100));
  // Every byte four times.
  const uint8x16x2_t twice = vzipq_u8(first, first);
  const uint8x16x2_t low = vzipq_u8(twice.val[0], twice.val[0]), high = vzipq_u8(twice.val[1], twice.val[1]);
  const auto value = [&](uint8x16_t index) { return vreinterpretq_f32_u8(vqtbl4q_u8(table, vorrq_u8(index, within))); };
  return {value(low.val[0]), value(low.val[1]), value(high.val[0]), value(high.val[1])};
}

// table[index[i]] of sixteen bytes.
LOWRANK_INLINE Vec floats_at(const float* table, const uint8_t* index) {
  float all[16];
  for (int i = 0; i < 16; ++i) all[i] = table[index[i]];
  return load(all);
}

// The two fp16 numbers at `p` and at every `stride` bytes from there, `count` (1 to 16) of each; zeros after them.
LOWRANK_INLINE void halves_at(const uint8_t* p, int64_t stride, int64_t count, Vec& first, Vec& second) {
  uint16_t firsts[16] = {}, seconds[16] = {};
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(firsts + i, p + i * stride, sizeof(uint16_t));
    std::memcpy(seconds + i, p + i * stride + 2, sizeof(uint16_t));
  }
  first = load_f16(firsts);
  second = load_f16(seconds);
}

// Quarter `kFrom` of four rows becomes quarter `kTo` of four others: a square of four by four, transposed.
template <float32x4_t Vec::* kFrom, float32x4_t Vec::* kTo>
LOWRANK_INLINE void transpose_square(const Vec* from, Vec* to) {
  const float32x4x2_t even = vtrnq_f32(from[0].*kFrom, from[1].*kFrom);
  const float32x4x2_t odd = vtrnq_f32(from[2].*kFrom, from[3].*kFrom);
  to[0].*kTo = vcombine_f32(vget_low_f32(even.val[0]), vget_low_f32(odd.val[0]));
  to[1].*kTo = vcombine_f32(vget_low_f32(even.val[1]), vget_low_f32(odd.val[1]));
  to[2].*kTo = vcombine_f32(vget_high_f32(even.val[0]), vget_high_f32(odd.val[0]));
  to[3].*kTo = vcombine_f32(vget_high_f32(even.val[1]), vget_high_f32(odd.val[1]));
}
template <float32x4_t Vec::* kTo>
LOWRANK_INLINE void transpose_rows(const Vec* from, Vec (&to)[16]) {
  transpose_square<&Vec::a, kTo>(from, to);
  transpose_square<&Vec::b, kTo>(from, to + 4);
  transpose_square<&Vec::c, kTo>(from, to + 8);
  transpose_square<&Vec::d, kTo>(from, to + 12);
}
// Row i, element j to row j, element i.
LOWRANK_INLINE void transpose(Vec (&v)[16]) {
  Vec t[16];
  transpose_rows<&Vec::a>(v, t);
  transpose_rows<&Vec::b>(v + 4, t);
  transpose_rows<&Vec::c>(v + 8, t);
  transpose_rows<&Vec::d>(v + 12, t);
  LOWRANK_UNROLL
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

// ---- sixteen bytes
using Bytes = uint8x16_t;
LOWRANK_INLINE Bytes bytes_at(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
LOWRANK_INLINE Bytes every(char value) { return vdupq_n_u8(static_cast<uint8_t>(value)); }
LOWRANK_INLINE Bytes either(Bytes a, Bytes b) { return vorrq_u8(a, b); }
LOWRANK_INLINE Bytes less(Bytes codes, char offset) { return vsubq_u8(codes, every(offset)); }
// Bits [shift, shift + n) of each, where `mask` has n bits set.
LOWRANK_INLINE Bytes bits_of(Bytes bytes, int shift, char mask) {
  return vandq_u8(vshlq_u8(bytes, vdupq_n_s8(static_cast<int8_t>(-shift))), every(mask));
}
// Values are below 16.
LOWRANK_INLINE Bytes times_16(Bytes values) { return vshlq_n_u8(values, 4); }
// `value` in the bytes that have a bit of `bit` set.
LOWRANK_INLINE Bytes where_set(Bytes bytes, Bytes bit, char value) {
  return vandq_u8(vtstq_u8(bytes, bit), every(value));
}
// 16 in byte j where bit j of the word is set.
LOWRANK_INLINE Bytes fifth_bits(const uint8_t* word) {
  const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
  return where_set(vcombine_u8(vdup_n_u8(word[0]), vdup_n_u8(word[1])), bit, 16);
}
// table[codes] of codes below 16.
LOWRANK_INLINE Bytes look_up(const int8_t* table, Bytes codes) { return vqtbl1q_u8(bytes_at(table), codes); }
LOWRANK_INLINE Vec from_i8(Bytes codes) {
  const int8x16_t values = vreinterpretq_s8_u8(codes);
  const int16x8_t low = vmovl_s8(vget_low_s8(values)), high = vmovl_s8(vget_high_s8(values));
  const auto widened = [](int16x4_t four) { return vcvtq_f32_s32(vmovl_s16(four)); };
  return {widened(vget_low_s16(low)), widened(vget_high_s16(low)), widened(vget_low_s16(high)),
          widened(vget_high_s16(high))};
}
LOWRANK_INLINE float half_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}
