// Gated units.
#include "cells.h"
#include "lists.h"

namespace lowrank::cuda {

struct GatedUnitArgs {
  Tiles tiles;
  Cells gate, up, out;
  Activation function;
  int32_t unused = 0;
};
struct GatedUnitBackwardArgs {
  Tiles tiles;
  Cells dout, gate, up, dgate, dup;
  Activation function;
  int32_t unused = 0;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

/// A function of a gate and its slope.
struct GateValue {
  float value, slope;
};
LOWRANK_DEVICE GateValue silu(float g) {
  const float s = sigmoid(g);
  return {g * s, s * (1.0f + g * (1.0f - s))};
}
/// (1 + tanh(z)) / 2 is sigmoid(2 z): 2 z is g (kGelu1 + kGelu3 g^2).
LOWRANK_DEVICE GateValue gelu(float g) {
  constexpr float kGelu1 = 1.5957691216057308f, kGelu3 = 1.5957691216057308f * 0.044715f;
  const float square = g * g, s = sigmoid(g * (kGelu1 + kGelu3 * square));
  return {g * s, s + g * s * (1.0f - s) * (kGelu1 + 3.0f * kGelu3 * square)};
}
LOWRANK_DEVICE GateValue sigmoid_gate(float g) {
  const float s = sigmoid(g);
  return {s, s * sigmoid(-g)};
}
LOWRANK_DEVICE GateValue relu2(float g) {
  const float above = g < 0.0f ? 0.0f : g;
  return {above * above, above + above};
}

/// Calls body(f), alike for all threads of a launch.
template <class Body>
LOWRANK_DEVICE void with_function(Activation function, Body&& body) {
  switch (function) {
    case Activation::silu:
      return body([](float g) { return silu(g); });
    case Activation::gelu:
      return body([](float g) { return gelu(g); });
    case Activation::sigmoid:
      return body([](float g) { return sigmoid_gate(g); });
    case Activation::relu2:
      return body([](float g) { return relu2(g); });
  }
}

}  // namespace

LOWRANK_KERNEL(gated_unit, GatedUnitArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float gate[8], up[8];
  load(gate, args.gate, spot);
  load(up, args.up, spot);
  with_function(args.function, [&](auto f) {
#pragma unroll
    for (int i = 0; i < 8; ++i) gate[i] = f(gate[i]).value * up[i];
  });
  store(args.out, gate, spot);
}

LOWRANK_KERNEL(gated_unit_backward, GatedUnitBackwardArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float d[8], gate[8], up[8];
  load(d, args.dout, spot);
  load(gate, args.gate, spot);
  load(up, args.up, spot);
  with_function(args.function, [&](auto f) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const GateValue at = f(gate[i]);
      gate[i] = d[i] * up[i] * at.slope;
      up[i] = d[i] * at.value;
    }
  });
  store(args.dgate, gate, spot);
  store(args.dup, up, spot);
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

constexpr auto gated_unit = kernel_of<GatedUnitArgs>("gated_unit");
constexpr auto gated_unit_backward = kernel_of<GatedUnitBackwardArgs>("gated_unit_backward");

}  // namespace

void run(Launcher& launcher, const GatedUnit& k, Ptr<std::byte>) {
  launch_tiles(launcher, gated_unit,
               {tiles_of(k.rows, k.cols), cells_of(k.gate), cells_of(k.up), cells_of(k.out),
                static_cast<Activation>(k.function)});
}

void run(Launcher& launcher, const GatedUnitBackward& k, Ptr<std::byte>) {
  launch_tiles(launcher, gated_unit_backward,
               {tiles_of(k.rows, k.cols), cells_of(k.dout), cells_of(k.gate), cells_of(k.up), cells_of(k.dgate),
                cells_of(k.dup), static_cast<Activation>(k.function)});
}

}  // namespace lowrank::cuda

#endif
