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

LOWRANK_DEVICE void load_apart(float (&v)[8], const float* from, int64_t at, int64_t stride, int count, bool wide) {
  if (wide) return load_wide(v, from + at);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = i < count ? from[(at + i) * stride] : 0.0f;
}
LOWRANK_DEVICE void store_apart(float* to, const float (&v)[8], int64_t at, int64_t stride, int count, bool wide) {
  if (wide) return store_wide(to + at, v);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[(at + i) * stride] = v[i];
}

template <class Rule>
LOWRANK_DEVICE void update(const UpdateArgs& args) {
  const PieceArgs& piece = piece_of(args.pieces);
  const int64_t at = (static_cast<int64_t>(blockIdx.x) - piece.first_block) * kUpdatesOfBlock + threadIdx.x * 8;
  const int64_t left = piece.count - at;
  if (left <= 0) return;
  const int count = left < 8 ? static_cast<int>(left) : 8;
  float *const m_at = static_cast<float*>(piece.m), *const v_at = static_cast<float*>(piece.v);
  const bool wide = count == 8 && piece.stride == 1 && aligned16(piece.p) && aligned16(piece.gradient) &&
                    aligned16(m_at) && aligned16(v_at);
  float g[8], p[8], m[8] = {}, v[8] = {};
  load_apart(g, piece.gradient, at, piece.stride, count, wide);
  load_apart(p, piece.p, at, piece.stride, count, wide);
  if (m_at) load_apart(m, m_at, at, piece.stride, count, wide);
  if (Rule::kV) load_apart(v, v_at, at, piece.stride, count, wide);
#pragma unroll
  for (int i = 0; i < 8; ++i) Rule::update(args.by, piece, g[i], p[i], m[i], v[i]);
  store_apart(piece.p, p, at, piece.stride, count, wide);
  if (m_at) store_apart(m_at, m, at, piece.stride, count, wide);
  if (Rule::kV) store_apart(v_at, v, at, piece.stride, count, wide);
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
  load_apart(g, piece.gradient, at, 1, count, wide);
  load_apart(p, piece.p, at, 1, count, wide);
  decode(m, with_sign, m_codes, *m_absmax, count, wide);
  if (Rule::kV) decode(v, without_sign, v_codes, *v_absmax, count, wide);
#pragma unroll
  for (int i = 0; i < 8; ++i) Rule::update(args.by, piece, g[i], p[i], m[i], v[i]);
  store_apart(piece.p, p, at, 1, count, wide);
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
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kUpdatesOfBlock + threadIdx.x * 8, left = args.count - at;
  if (left <= 0) return;
  const int count = left < 8 ? static_cast<int>(left) : 8;
  float value[8], gradient[8], sensitivity[8], uncertainty[8];
  load(value, args.value, at, count);
  load(gradient, args.gradient, at, count);
  load(sensitivity, args.sensitivity, at, count);
  load(uncertainty, args.uncertainty, at, count);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float importance = fabsf(value[i] * (args.grad_scale * gradient[i]));
    sensitivity[i] = args.beta1 * sensitivity[i] + (1 - args.beta1) * importance;
    uncertainty[i] = args.beta2 * uncertainty[i] + (1 - args.beta2) * fabsf(importance - sensitivity[i]);
  }
  store_some(args.sensitivity + at, sensitivity, count, aligned16(args.sensitivity));
  store_some(args.uncertainty + at, uncertainty, count, aligned16(args.uncertainty));
}

}  // namespace lowrank::cuda
