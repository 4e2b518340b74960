#include "backends/cuda/updates.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "backends/cuda/launch_cells.h"
#include "backends/cuda/optimizers.h"
#include "core/math.h"
#include "quant/dynamic.h"

namespace lowrank::cuda {
namespace {

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
                  {k.count, k.beta1, k.beta2, k.grad_scale, device_pointer(k.value), device_pointer(k.gradient),
                   device_pointer(k.sensitivity), device_pointer(k.uncertainty)});
}

}  // namespace lowrank::cuda
