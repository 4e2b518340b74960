#include "cells.cuh"
#include "updates.h"

namespace lowrank::cuda {
namespace {

// ---- rules, each as the CPU's vector levels compute it, bit for bit

/// v is the second moment, or with `kRoot` its root.
template <bool kRoot>
struct AdamWRule {
  static constexpr bool kV = true;
  __device__ static void update(const UpdateFactors& by, const PieceArgs& piece, float gradient, float& p, float& m,
                                float& v) {
    const float g = gradient * by.grad_scale;
    const float first = fmaf(by.b1, m, by.c1 * g);
    const float second = fmaf(by.b2, kRoot ? v * v : v, by.c2 * g * g);
    const float root = sqrtf(second);
    m = first;
    v = kRoot ? root : second;
    p = p * piece.decay - piece.rate * first / fmaf(root, piece.root, by.epsilon);
  }
};

struct SgdRule {
  static constexpr bool kV = false;
  __device__ static void update(const UpdateFactors& by, const PieceArgs& piece, float gradient, float& p, float& m,
                                float&) {
    const float g = fmaf(gradient, by.grad_scale, piece.decay * p);
    m = piece.m ? fmaf(by.b1, m, g) : g;
    p -= piece.rate * m;
  }
};

struct LionRule {
  static constexpr bool kV = false;
  __device__ static void update(const UpdateFactors& by, const PieceArgs& piece, float gradient, float& p, float& m,
                                float&) {
    const float g = gradient * by.grad_scale;
    const float mixed = fmaf(by.b1, m, by.c1 * g);
    const float against = mixed < 0 ? -piece.rate : piece.rate;
    p = p * piece.decay - (mixed == 0 ? 0.0f : against);
    m = fmaf(by.b2, m, by.c2 * g);
  }
};

template <int kMost>
LOWRANK_DEVICE const PieceArgs& piece_of(const Pieces<kMost>& pieces) {
  int64_t i = 0;
  while (i + 1 < pieces.count && pieces.at[i + 1].first_block <= static_cast<int64_t>(blockIdx.x)) ++i;
  return pieces.at[i];
}

// ---- four neighbors at a time, so that the accesses of a warp lie side by side

/// @param count of the four that are there, all of them where the access is wide
LOWRANK_DEVICE void load_four(float* v, const float* from, int64_t at, int64_t stride, int count, bool wide) {
  const Pack<float> all = wide ? load16(from + at) : Pack<float>{};
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = wide ? all.at[i] : i < count ? from[(at + i) * stride] : 0.0f;
}
LOWRANK_DEVICE void store_four(float* to, const float* v, int64_t at, int64_t stride, int count, bool wide) {
  if (wide) return store16(to + at, Pack<float>{{v[0], v[1], v[2], v[3]}});
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < count) to[(at + i) * stride] = v[i];
}
LOWRANK_DEVICE int count_from(int64_t at, int64_t count) {
  const int64_t left = count - at;
  return left < 4 ? (left > 0 ? static_cast<int>(left) : 0) : 4;
}

template <class Rule>
LOWRANK_DEVICE void update(const UpdateArgs& args) {
  const PieceArgs& piece = piece_of(args.pieces);
  float *const m_at = static_cast<float*>(piece.m), *const v_at = static_cast<float*>(piece.v);
  const bool aligned =
      piece.stride == 1 && aligned16(piece.p) && aligned16(piece.gradient) && aligned16(m_at) && aligned16(v_at);
  int64_t at = (static_cast<int64_t>(blockIdx.x) - piece.first_block) * kUpdatesOfBlock + threadIdx.x * 4;
#pragma unroll 1
  for (int turn = 0; turn < kUpdatesOfThread / 4; ++turn, at += kUpdateThreads * 4) {
    const int count = count_from(at, piece.count);
    if (count == 0) return;
    const bool wide = aligned && count == 4;
    float g[4], p[4], m[4] = {}, v[4] = {};
    load_four(g, piece.gradient, at, piece.stride, count, wide);
    load_four(p, piece.p, at, piece.stride, count, wide);
    if (m_at) load_four(m, m_at, at, piece.stride, count, wide);
    if (Rule::kV) load_four(v, v_at, at, piece.stride, count, wide);
#pragma unroll
    for (int i = 0; i < 4; ++i) Rule::update(args.by, piece, g[i], p[i], m[i], v[i]);
    store_four(piece.p, p, at, piece.stride, count, wide);
    if (m_at) store_four(m_at, m, at, piece.stride, count, wide);
    if (Rule::kV) store_four(v_at, v, at, piece.stride, count, wide);
  }
}

// ---- 8-bit state: a warp has a block of 256 numbers, eight a lane

struct CodeTable {
  const float *map, *borders;
};
LOWRANK_DEVICE float border(const float* map, bool is_signed, int i) {
  if (i == 255) return __uint_as_float(0x7f800000u);
  if (is_signed && i == 126) return __uint_as_float(0x80000001u);  // a negative number never gets the code of 0
  return (map[i] + map[i + 1]) * 0.5f;
}

LOWRANK_DEVICE void decode(float (&v)[8], const CodeTable& table, const uint8_t* codes, float absmax, int count,
                           bool wide) {
  uint32_t words[2] = {};
  if (wide) {
    const uint2 both = *reinterpret_cast<const uint2*>(codes);
    words[0] = both.x;
    words[1] = both.y;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (i < count) words[i / 4] |= static_cast<uint32_t>(codes[i]) << (i % 4 * 8);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = table.map[words[i / 4] >> (i % 4 * 8) & 0xff] * absmax;
}

/// All lanes of a warp call it.
LOWRANK_DEVICE void encode(const float (&v)[8], const CodeTable& table, uint8_t* codes, float* absmax, int count,
                           bool wide) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) largest = fmaxf(largest, fabsf(v[i]));
  largest = warp_max(largest);
  const bool empty = largest < 0x1p-126f;
  const float inverse = empty ? 0.0f : 1.0f / largest;
  if ((threadIdx.x & 31) == 0) *absmax = empty ? 0.0f : largest;
  uint32_t words[2] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float x = fminf(fmaxf(v[i] * inverse, -1.0f), 1.0f);
    int code = 0;
#pragma unroll
    for (int step = 128; step > 0; step >>= 1)
      if (table.borders[code + step - 1] < x) code += step;
    words[i / 4] |= static_cast<uint32_t>(code) << (i % 4 * 8);
  }
  if (wide) {
    *reinterpret_cast<uint2*>(codes) = make_uint2(words[0], words[1]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) codes[i] = static_cast<uint8_t>(words[i / 4] >> (i % 4 * 8));
}

LOWRANK_DEVICE bool aligned8(const void* at) { return (reinterpret_cast<uint64_t>(at) & 7) == 0; }

template <class Rule>
LOWRANK_DEVICE void update_8bit(const Update8BitArgs& args) {
  LOWRANK_SHARED(float, maps, [512]);
  LOWRANK_SHARED(float, borders, [512]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31;
  maps[thread] = args.signed_map[thread];
  maps[256 + thread] = args.unsigned_map[thread];
  __syncthreads();
  borders[thread] = border(maps, true, thread);
  borders[256 + thread] = border(maps + 256, false, thread);
  __syncthreads();
  const CodeTable with_sign{maps, borders}, without_sign{maps + 256, borders + 256};

  const PieceArgs& piece = piece_of(args.pieces);
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - piece.first_block) * kUpdatesOfBlock + (thread >> 5) * 256;
  if (begin >= piece.count) return;
  const int64_t at = begin + lane * 8, left = piece.count - at;
  const int count = left < 8 ? (left > 0 ? static_cast<int>(left) : 0) : 8;
  const bool wide =
      count == 8 && aligned16(piece.p) && aligned16(piece.gradient) && aligned8(piece.m) && aligned8(piece.v);
  uint8_t *const m_codes = static_cast<uint8_t*>(piece.m) + at, *const v_codes = static_cast<uint8_t*>(piece.v) + at;
  float *const m_absmax = piece.m_absmax + begin / 256, *const v_absmax = piece.v_absmax + begin / 256;
  float g[8], p[8], m[8], v[8] = {};
  load_some(g, piece.gradient + at, count, wide);
  load_some(p, piece.p + at, count, wide);
  decode(m, with_sign, m_codes, *m_absmax, count, wide);
  if (Rule::kV) decode(v, without_sign, v_codes, *v_absmax, count, wide);
#pragma unroll
  for (int i = 0; i < 8; ++i) Rule::update(args.by, piece, g[i], p[i], m[i], v[i]);
  store_some(piece.p + at, p, count, wide);
  __syncwarp();  // all have read the magnitudes
  encode(m, with_sign, m_codes, m_absmax, count, wide);
  if (Rule::kV) encode(v, without_sign, v_codes, v_absmax, count, wide);
}

}  // namespace

LOWRANK_KERNEL(adamw, UpdateArgs, kUpdateThreads, 4) { update<AdamWRule<false>>(args); }
LOWRANK_KERNEL(adamw_8bit, Update8BitArgs, kUpdateThreads, 4) { update_8bit<AdamWRule<true>>(args); }
LOWRANK_KERNEL(sgd, UpdateArgs, kUpdateThreads, 4) { update<SgdRule>(args); }
LOWRANK_KERNEL(lion, UpdateArgs, kUpdateThreads, 4) { update<LionRule>(args); }
LOWRANK_KERNEL(lion_8bit, Update8BitArgs, kUpdateThreads, 4) { update_8bit<LionRule>(args); }

LOWRANK_KERNEL(follow_importances, FollowImportancesArgs, kUpdateThreads, 4) {
  const bool aligned =
      aligned16(args.value) && aligned16(args.gradient) && aligned16(args.sensitivity) && aligned16(args.uncertainty);
  int64_t at = static_cast<int64_t>(blockIdx.x) * kUpdatesOfBlock + threadIdx.x * 4;
#pragma unroll 1
  for (int turn = 0; turn < kUpdatesOfThread / 4; ++turn, at += kUpdateThreads * 4) {
    const int count = count_from(at, args.count);
    if (count == 0) return;
    const bool wide = aligned && count == 4;
    float value[4], gradient[4], sensitivity[4], uncertainty[4];
    load_four(value, args.value, at, 1, count, wide);
    load_four(gradient, args.gradient, at, 1, count, wide);
    load_four(sensitivity, args.sensitivity, at, 1, count, wide);
    load_four(uncertainty, args.uncertainty, at, 1, count, wide);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float importance = fabsf(value[i] * (args.grad_scale * gradient[i]));
      sensitivity[i] = args.beta1 * sensitivity[i] + (1 - args.beta1) * importance;
      uncertainty[i] = args.beta2 * uncertainty[i] + (1 - args.beta2) * fabsf(importance - sensitivity[i]);
    }
    store_four(args.sensitivity, sensitivity, at, 1, count, wide);
    store_four(args.uncertainty, uncertainty, at, 1, count, wide);
  }
}

}  // namespace lowrank::cuda
