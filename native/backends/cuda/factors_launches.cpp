#include <algorithm>

#include "backends/cuda/factors.h"
#include "backends/cuda/factors_launches.h"
#include "backends/cuda/launch_pair.h"
#include "backends/cuda/parts.h"

namespace lowrank::cuda {
namespace {

constexpr int64_t kStretches = 64;  // of the rows of a folded matrix

PairFactorArgs args_of(const Pair& pair) {
  PairFactorArgs args{};
  static_cast<PairOperands&>(args) = operands_of(pair);
  return args;
}

}  // namespace

int64_t workspace(const Card&, const FoldGradient& k) { return k.dd ? kStretches * k.active * 4 : 0; }

void run(Launcher& launcher, const Fold& k, Ptr<std::byte>) {
  const FoldArgs args{k.rows,
                      k.rank,
                      k.active,
                      k.scale,
                      k.weight,
                      device_pointer(k.b),
                      device_pointer(k.d),
                      device_pointer(k.mask),
                      device_pointer(k.b_gain),
                      device_pointer(k.row_gains),
                      device_pointer(k.out)};
  launch_elements(launcher, fold, k.rows * k.active, args);
}

void run(Launcher& launcher, const FoldGradient& k, Ptr<std::byte> workspace) {
  const int64_t stretch = std::max<int64_t>(ceil_div(k.rows, kStretches), 1), stretches = ceil_div(k.rows, stretch);
  const FoldGradientArgs args{k.rows,
                              k.rank,
                              k.active,
                              stretch,
                              device_pointer(k.b),
                              device_pointer(k.d),
                              device_pointer(k.mask),
                              device_pointer(k.b_gain),
                              device_pointer(k.g),
                              device_pointer(k.db),
                              device_pointer(workspace.as<float>()),
                              device_pointer(k.dgain),
                              k.scale};
  if (k.db || k.dgain) launcher.launch(fold_gradient, {ceil_div(k.rows, 8)}, 256, args);
  if (!k.dd) return;
  launcher.launch(fold_gradient_of_ranks, {ceil_div(k.active, 32), stretches}, 32, args);
  add_sums(launcher, k.active, stretches, workspace.as<float>(), k.dd);
}

void run(Launcher& launcher, const FoldSnapshot& k, Ptr<std::byte>) {
  const FoldSnapshotArgs args{k.rows,
                              k.rank,
                              k.own,
                              k.taken,
                              device_pointer(k.b),
                              device_pointer(k.star),
                              device_pointer(k.row_gains),
                              device_pointer(k.out)};
  launch_elements(launcher, fold_snapshot, 2 * k.rows * k.rank, args);
}

void run(Launcher& launcher, const BuildPairA& k, Ptr<std::byte>) {
  PairFactorArgs args = args_of(k.pair);
  args.out = device_pointer(k.out);
  launch_elements(launcher, build_pair_a, k.pair.rank * k.pair.rank2 * k.pair.cols, args);
}

void run(Launcher& launcher, const FoldPair& k, Ptr<std::byte>) {
  PairFactorArgs args = args_of(k.pair);
  args.scale = k.scale;
  args.weight = k.weight;
  args.row_gains = device_pointer(k.row_gains);
  args.out = device_pointer(k.out);
  launch_elements(launcher, fold_pair, k.pair.rows * k.pair.rank * k.pair.rank2, args);
}

void run(Launcher& launcher, const SpreadPairA& k, Ptr<std::byte>) {
  PairFactorArgs args = args_of(k.pair);
  args.g = device_pointer(k.g);
  args.first = device_pointer(k.da);
  args.second = device_pointer(k.da2);
  launch_elements(launcher, spread_pair_a, (k.pair.rank + k.pair.rank2) * k.pair.cols, args);
}

void run(Launcher& launcher, const SpreadPairB& k, Ptr<std::byte>) {
  PairFactorArgs args = args_of(k.pair);
  args.scale = k.scale;
  args.row_gains = device_pointer(k.row_gains);
  args.g = device_pointer(k.g);
  args.first = device_pointer(k.db);
  args.second = device_pointer(k.db2);
  launch_elements(launcher, spread_pair_b, (k.pair.rank + k.pair.rank2) * k.pair.rows, args);
}

}  // namespace lowrank::cuda
