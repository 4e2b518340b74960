#include "backends/cuda/delta_rule_launches.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cuda/delta_rule.h"
#include "backends/cuda/launch_cells.h"
#include "core/error.h"
#include "core/math.h"
#include "device/layout.h"

namespace lowrank::cuda {
namespace {

/// Blocks of the backward pass, each of which has room for the states of a chunk.
constexpr int64_t kMostBackwardBlocks = 128;

int64_t tiles_of(const DeltaHeads& shape) { return ceil_div(shape.value_dim, kDeltaCols); }

/// More tokens than sequences: planning knows no sequences.
int64_t backward_blocks(const DeltaInputs& in) {
  return std::min(kMostBackwardBlocks, in.tokens * in.shape.heads * tiles_of(in.shape));
}

void expect_size(const DeltaHeads& shape) {
  if (shape.key_dim > kMostKeyDim)
    fail("UNSUPPORTED", "the model's delta rules have keys of ", shape.key_dim, " numbers, and on CUDA they can have ",
         kMostKeyDim, " at most; use device 'cpu'");
}

/// Takes the sequences, which come first, the norms, and the gates from the workspace.
DeltaArgs arguments(const DeltaInputs& in, Layout& room) {
  const auto& [heads, key_heads, key_dim, value_dim] = in.shape;
  expect_size(in.shape);
  DeltaArgs args{};
  args.x = cells_of(in.x);
  args.beta = cells_of(in.beta);
  args.alpha = cells_of(in.alpha);
  args.weight = device_pointer(in.weight);
  args.bias = device_pointer(in.bias);
  args.seqlens = device_pointer(room.take<int32_t>(in.tokens + 1));
  args.norms = device_pointer(room.take<float>(in.tokens * key_heads * 3));
  args.gates = device_pointer(room.take<float>(in.tokens * heads * 3));
  args.tokens = in.tokens;
  args.heads = heads;
  args.key_heads = key_heads;
  args.key_dim = key_dim;
  args.value_dim = value_dim;
  args.query_factor = 1.0f / std::sqrt(static_cast<float>(key_dim));
  return args;
}

/// The sequences that have tokens.
std::vector<int32_t> sequences_of(const DeltaInputs& in) {
  std::vector<int32_t> seqlens(in.host_seqlens.begin(), in.host_seqlens.end());
  seqlens.erase(std::unique(seqlens.begin(), seqlens.end()), seqlens.end());
  return seqlens;
}

void prepare(Launcher& launcher, const DeltaInputs& in, DeltaArgs& args, Ptr<std::byte> workspace) {
  const std::vector<int32_t> seqlens = sequences_of(in);
  args.sequences = static_cast<int32_t>(seqlens.size()) - 1;
  if (args.sequences == 1)
    args.seqlens = nullptr;  // such launches are the same for all tokens of a text
  else
    launcher.upload(workspace, seqlens.data(), static_cast<int64_t>(seqlens.size() * sizeof(int32_t)));
  launcher.launch(delta_gates, {args.tokens}, kDeltaThreads, args);
}

DeltaBackwardArgs arguments(const GatedDeltaRuleBackward& k, Layout& room) {
  const int64_t tiles = tiles_of(k.in.shape), rows = k.in.shape.heads * tiles * k.in.tokens;
  DeltaBackwardArgs args{};
  args.in = arguments(k.in, room);
  args.ends = device_pointer(k.ends);
  args.dout = cells_of(k.dout);
  args.dx = cells_of(k.dx);
  args.dbeta = cells_of(k.dbeta);
  args.dalpha = cells_of(k.dalpha);
  args.states =
      device_pointer(room.take<float>(backward_blocks(k.in) * kDeltaTokens * k.in.shape.key_dim * kDeltaCols));
  args.parts = device_pointer(room.take<float>(rows * kDeltaThreads));
  args.gate_sums = device_pointer(room.take<float>(rows * kDeltaGateSums));
  args.tiles = tiles;
  return args;
}

}  // namespace

void run(Launcher& launcher, const GatedDeltaRule& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaForwardArgs args{};
  args.in = arguments(k.in, room);
  prepare(launcher, k.in, args.in, workspace);
  args.out = cells_of(k.out);
  args.positions = device_pointer(k.positions);
  args.state = device_pointer(k.state);
  // The address is that of the first block, so that launches are the same for all tokens.
  if (k.ends) args.ends = device_pointer(k.ends + -(k.past / k.block) * k.in.shape.state());
  args.block = k.block;
  launcher.launch(gated_delta_rule, {int64_t{args.in.sequences} * k.in.shape.heads, tiles_of(k.in.shape)},
                  kDeltaThreads, args);
}

void run(Launcher& launcher, const GatedDeltaRuleBackward& k, Ptr<std::byte> workspace) {
  if (k.in.tokens == 0) return;
  Layout room(workspace, cuda::workspace(launcher.card(), k));
  DeltaBackwardArgs args = arguments(k, room);
  prepare(launcher, k.in, args.in, workspace);
  const int64_t units = int64_t{args.in.sequences} * k.in.shape.heads * args.tiles;
  launcher.launch(gated_delta_rule_backward, {std::min(units, backward_blocks(k.in))}, kDeltaThreads, args);
  launcher.launch(delta_inputs_gradient, {k.in.tokens}, kDeltaThreads, args);
}

void run(Launcher& launcher, const DeltaRuleGradient& k, Ptr<std::byte>) {
  launcher.launch(delta_rule_gradient, {k.heads}, kDeltaThreads,
                  {k.tokens, cells_of(k.alpha), cells_of(k.dalpha), device_pointer(k.bias), device_pointer(k.dweight),
                   device_pointer(k.dbias)});
}

int64_t workspace(const Card&, const GatedDeltaRule& k) {
  Layout room;
  arguments(k.in, room);
  return room.bytes();
}

int64_t workspace(const Card&, const GatedDeltaRuleBackward& k) {
  Layout room;
  arguments(k, room);
  return room.bytes();
}

}  // namespace lowrank::cuda
