#include <algorithm>

#include "backends/cuda/parts.h"
#include "backends/cuda/row_norms.h"
#include "backends/cuda/row_norms_launches.h"

namespace lowrank::cuda {
namespace {

// In the order of DeviceFormat.
#define LOWRANK_ROW_NORMS(format) row_norms_##format,
constexpr KernelOf<RowNormsArgs> kRowNorms[] = {LOWRANK_WEIGHT_FORMATS(LOWRANK_ROW_NORMS)};
#undef LOWRANK_ROW_NORMS

void launch_rows(Launcher& launcher, const RowNormsArgs& args) {
  launcher.launch(kRowNorms[static_cast<int>(args.w.format)], {ceil_div(args.w.rows, 8)}, 256, args);
}

/// Stretches of tokens whose products are added apart, as many as there may be.
int64_t stretches_of(const SecondMoment& k) {
  const int64_t most = std::clamp<int64_t>((int64_t{1} << 19) / std::max<int64_t>(k.rank * k.rank, 1), 1, 64);
  return std::clamp<int64_t>(ceil_div(k.tokens, 32), 1, most);
}

}  // namespace

void run(Launcher& launcher, const Weights& weights, const RowSquares& k, Ptr<std::byte>) {
  RowNormsArgs args{};
  args.w = device_weight(weights, k.w);
  args.own = device_pointer(k.out);
  launch_rows(launcher, args);
}

void run(Launcher& launcher, const Weights& weights, const AdaptedRowNorms& k, Ptr<std::byte>) {
  RowNormsArgs args{};
  args.w = device_weight(weights, k.w);
  args.a = device_pointer(k.a);
  args.a_ld = k.a_ld;
  args.b = device_pointer(k.b);
  args.rank = k.rank;
  args.squares = device_pointer(k.squares);
  args.products = device_pointer(k.products);
  args.gram = device_pointer(k.gram);
  args.out = device_pointer(k.out);
  launch_rows(launcher, args);
}

void run(Launcher& launcher, const Gram& k, Ptr<std::byte>) {
  const GramArgs args{k.rank, k.cols, device_pointer(k.a), k.ld, device_pointer(k.out)};
  launcher.launch(gram, {ceil_div(k.rank * k.rank, 8)}, 256, args);
}

int64_t workspace(const Card&, const SecondMoment& k) { return round_up(stretches_of(k) * k.rank * k.rank * 8, 256); }

void run(Launcher& launcher, const SecondMoment& k, Ptr<std::byte> workspace) {
  SecondMomentArgs args{};
  args.tokens = k.tokens;
  args.rank = k.rank;
  args.stretch = std::max<int64_t>(ceil_div(k.tokens, stretches_of(k)), 1);
  args.stretches = ceil_div(k.tokens, args.stretch);
  args.h = device_pointer(k.h.data);
  args.ld = k.h.ld;
  args.bf16 = k.h.dtype == DType::bf16;
  args.parts = device_pointer(workspace.as<double>());
  args.moment = device_pointer(k.moment);
  const int64_t blocks = ceil_div(k.rank * k.rank, 256);
  launcher.launch(second_moment, {blocks, args.stretches}, 256, args);
  launcher.launch(add_second_moment, {blocks}, 256, args);
}

}  // namespace lowrank::cuda
