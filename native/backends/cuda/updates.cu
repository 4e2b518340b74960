// Optimizers' updates of single numbers.
#include "kernel.h"

namespace lowrank::cuda {

/// Numbers that are updated alike, `stride` apart with their gradients and fp32 state; 8-bit state is of numbers side
/// by side. Which factors there are is the rule's.
struct PieceArgs {
  int64_t first_block;  // of a launch that has this piece
  int64_t count, stride;
  float* p;
  const float* gradient;
  void *m, *v;  // floats, or codes
  float *m_absmax, *v_absmax;
  float rate, decay, root;
};

template <int kMost>
struct Pieces {
  int64_t count;
  PieceArgs at[kMost];
};
/// Factors that all pieces share; c1 = 1 - b1, c2 = 1 - b2. Sgd has its momentum at b1.
struct UpdateFactors {
  float b1, b2, c1, c2, epsilon, grad_scale;
};
struct UpdateArgs {
  UpdateFactors by;
  Pieces<36> pieces;
};
/// The maps of quant/dynamic.h.
struct Update8BitArgs {
  UpdateFactors by;
  float signed_map[256], unsigned_map[256];
  Pieces<18> pieces;
};
struct FollowImportancesArgs {
  int64_t count;
  float beta1, beta2, grad_scale;
  int32_t unused = 0;
  const float *value, *gradient;
  float *sensitivity, *uncertainty;
};
inline constexpr int kUpdateThreads = 256, kUpdatesOfThread = 8, kUpdatesOfBlock = kUpdateThreads * kUpdatesOfThread;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

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

#else
#include "backends/cuda/runs.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/math.h"
#include "quant/dynamic.h"

namespace lowrank::cuda {
namespace {

// Their arguments are arrays, and no repeated pass has them: none are compared.
constexpr KernelOf<UpdateArgs> adamw{"adamw"};
constexpr KernelOf<Update8BitArgs> adamw_8bit{"adamw_8bit"};
constexpr KernelOf<UpdateArgs> sgd{"sgd"};
constexpr KernelOf<UpdateArgs> lion{"lion"};
constexpr KernelOf<Update8BitArgs> lion_8bit{"lion_8bit"};
constexpr auto follow_importances = kernel_of<FollowImportancesArgs>("follow_importances");

static_assert(kMomentBlock == 256 && kUpdatesOfBlock % kMomentBlock == 0);

float rest(float beta) { return static_cast<float>(1.0 - static_cast<double>(beta)); }
float decoupled_decay(const UpdatePiece& piece) {
  return static_cast<float>(1.0 - static_cast<double>(piece.learning_rate) * piece.weight_decay);
}

PieceArgs args_of(const UpdatePiece& piece) {
  const auto state = [](const Moments& moments) -> void* {
    if (moments.codes) return device_pointer(moments.codes);
    return device_pointer(moments.floats);
  };
  PieceArgs args{};
  args.count = piece.count;
  args.stride = piece.stride;
  args.p = device_pointer(piece.p);
  args.gradient = device_pointer(piece.gradient);
  args.m = state(piece.m);
  args.v = state(piece.v);
  args.m_absmax = device_pointer(piece.m.absmax);
  args.v_absmax = device_pointer(piece.v.absmax);
  return args;
}

/// Launches the kernel over those of the pieces that `takes` says, as many at a time as its arguments hold.
template <class Args, class Takes, class Factors>
void update(Launcher& launcher, const KernelOf<Args>& kernel, std::span<const UpdatePiece> pieces,
            const UpdateFactors& by, Takes&& takes, Factors&& factors) {
  Args args{};
  args.by = by;
  if constexpr (requires { args.signed_map; }) {
    std::copy_n(kDynamicMap, 256, args.signed_map);
    std::copy_n(kUnsignedDynamicMap, 256, args.unsigned_map);
  }
  int64_t blocks = 0;
  const auto launch = [&] {
    launcher.launch(kernel, {blocks}, kUpdateThreads, args);
    args.pieces.count = blocks = 0;
  };
  for (const UpdatePiece& piece : pieces) {
    if (piece.count == 0 || !takes(piece)) continue;
    PieceArgs& to = args.pieces.at[args.pieces.count++];
    to = args_of(piece);
    to.first_block = blocks;
    factors(piece, to);
    blocks += (piece.count + kUpdatesOfBlock - 1) / kUpdatesOfBlock;
    if (args.pieces.count == static_cast<int64_t>(std::size(args.pieces.at))) launch();
  }
  launch();
}

bool has_codes(const UpdatePiece& piece) { return static_cast<bool>(piece.m.codes); }
bool has_floats(const UpdatePiece& piece) { return !has_codes(piece); }

}  // namespace

void run(Launcher& launcher, const AdamW& k, Ptr<std::byte>) {
  const UpdateFactors by{k.beta1, k.beta2, rest(k.beta1), rest(k.beta2), k.epsilon, k.grad_scale};
  const auto correction = [](float beta, int64_t step) {
    return 1.0 - math::pow(static_cast<double>(beta), static_cast<double>(step));
  };
  const auto factors = [&](const UpdatePiece& piece, PieceArgs& to) {
    to.rate = static_cast<float>(piece.learning_rate / correction(k.beta1, piece.step));
    to.decay = decoupled_decay(piece);
    to.root = static_cast<float>(1.0 / std::sqrt(correction(k.beta2, piece.step)));
  };
  update(launcher, adamw, k.pieces, by, has_floats, factors);
  update(launcher, adamw_8bit, k.pieces, by, has_codes, factors);
}

void run(Launcher& launcher, const Sgd& k, Ptr<std::byte>) {
  const UpdateFactors by{k.momentum, 0, 0, 0, 0, k.grad_scale};
  const auto all = [](const UpdatePiece&) { return true; };
  update(launcher, sgd, k.pieces, by, all, [](const UpdatePiece& piece, PieceArgs& to) {
    to.rate = piece.learning_rate;
    to.decay = piece.weight_decay;
  });
}

void run(Launcher& launcher, const Lion& k, Ptr<std::byte>) {
  const UpdateFactors by{k.beta1, k.beta2, rest(k.beta1), rest(k.beta2), 0, k.grad_scale};
  const auto factors = [](const UpdatePiece& piece, PieceArgs& to) {
    to.rate = piece.learning_rate;
    to.decay = decoupled_decay(piece);
  };
  update(launcher, lion, k.pieces, by, has_floats, factors);
  update(launcher, lion_8bit, k.pieces, by, has_codes, factors);
}

void run(Launcher& launcher, const FollowImportances& k, Ptr<std::byte>) {
  launcher.launch(follow_importances, blocks_of(k.count, kUpdatesOfBlock), kUpdateThreads,
                  {k.count, k.beta1, k.beta2, k.grad_scale, 0, device_pointer(k.value), device_pointer(k.gradient),
                   device_pointer(k.sensitivity), device_pointer(k.uncertainty)});
}

}  // namespace lowrank::cuda

#endif
