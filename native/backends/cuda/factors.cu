// The small matrices of adapters: what is folded into them, and its gradients.
#include "pair.h"

namespace lowrank::cuda {

struct FoldArgs {
  int64_t rows, rank, active;
  float scale, weight;
  const float *b, *d, *mask, *b_gain, *row_gains;
  float* out;
};

/// Gradients row by row; those of d in parts, of `stretch` rows each.
struct FoldGradientArgs {
  int64_t rows, rank, active, stretch;
  const float *b, *d, *mask, *b_gain, *g;
  float *db, *parts, *dgain;
  float scale;
  int32_t unused = 0;
};

struct FoldSnapshotArgs {
  int64_t rows, rank;
  float own, taken;
  const float *b, *star, *row_gains;
  float* out;
};

struct PairFactorArgs {
  PairOperands pair;
  float scale, weight;
  const float *row_gains, *g;
  float *out, *first, *second;  // the gradients of the first and of the second product's factor
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "device.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE float factor_at(const float* factors, int64_t i) { return factors ? factors[i] : 1.0f; }

}  // namespace

LOWRANK_KERNEL(fold, FoldArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= args.rows * args.active) return;
  const int64_t i = at / args.active, j = at % args.active;
  float factor = args.weight * (args.b_gain ? args.scale * args.b_gain[i] : args.scale) * factor_at(args.row_gains, i);
  if (args.d) factor *= args.d[j];
  if (args.mask) factor *= args.mask[j];
  args.out[at] = factor * args.b[i * args.rank + j];
}

/// A warp a row.
LOWRANK_KERNEL(fold_gradient, FoldGradientArgs, 256, 4) {
  const int64_t i = int64_t{blockIdx.x} * 8 + (threadIdx.x >> 5);
  if (i >= args.rows) return;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const float row_gain = factor_at(args.b_gain, i);
  float to_gain = 0;
  for (int64_t j = lane; j < args.active; j += 32) {
    const float dj = factor_at(args.d, j), masked = args.scale * factor_at(args.mask, j) * args.g[i * args.active + j];
    if (args.db) args.db[i * args.rank + j] += masked * row_gain * dj;
    if (args.dgain) to_gain = fmaf(masked * dj, args.b[i * args.rank + j], to_gain);
  }
  if (!args.dgain) return;
  to_gain = warp_sum(to_gain);
  if (lane == 0) args.dgain[i] += to_gain;
}

/// A thread a column and stretch of rows.
LOWRANK_KERNEL(fold_gradient_of_ranks, FoldGradientArgs, 32, 16) {
  const int64_t j = thread_of_grid();
  if (j >= args.active) return;
  const int64_t begin = int64_t{blockIdx.y} * args.stretch, end = min(begin + args.stretch, args.rows);
  const float factor = args.scale * factor_at(args.mask, j);
  float sum = 0;
  for (int64_t i = begin; i < end; ++i)
    sum = fmaf(factor * args.g[i * args.active + j] * factor_at(args.b_gain, i), args.b[i * args.rank + j], sum);
  args.parts[blockIdx.y * args.active + j] = sum;
}

LOWRANK_KERNEL(fold_snapshot, FoldSnapshotArgs, 256, 4) {
  const int64_t at = thread_of_grid(), width = 2 * args.rank;
  if (at >= args.rows * width) return;
  const int64_t i = at / width, j = at % width;
  const float gain = factor_at(args.row_gains, i);
  args.out[at] = j < args.rank ? gain * args.own * args.b[i * args.rank + j]
                               : gain * args.taken * args.star[i * args.rank + j - args.rank];
}

LOWRANK_KERNEL(build_pair_a, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= args.pair.rank * args.pair.rank2 * args.pair.cols) return;
  const int64_t row = at / args.pair.cols, c = at % args.pair.cols;
  args.out[at] = args.pair.a[row / args.pair.rank2 * args.pair.cols + c] *
                 args.pair.a2[row % args.pair.rank2 * args.pair.cols + c];
}

LOWRANK_KERNEL(fold_pair, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid(), width = args.pair.rank * args.pair.rank2;
  if (at >= args.pair.rows * width) return;
  const int64_t o = at / width, i = at % width / args.pair.rank2, j = at % args.pair.rank2;
  const float row = args.weight * args.scale * factor_at(args.row_gains, o);
  args.out[at] = row * args.pair.b[o * args.pair.rank + i] * args.pair.b2[o * args.pair.rank2 + j];
}

/// A thread an element of a, then of a2.
LOWRANK_KERNEL(spread_pair_a, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= (args.pair.rank + args.pair.rank2) * args.pair.cols) return;
  const int64_t row = at / args.pair.cols, c = at % args.pair.cols;
  const bool of_first = row < args.pair.rank;
  const int64_t own = of_first ? row : row - args.pair.rank, others = of_first ? args.pair.rank2 : args.pair.rank;
  float* const to = of_first ? args.first : args.second;
  const float* const other = of_first ? args.pair.a2 : args.pair.a;
  if (!to) return;
  float sum = to[own * args.pair.cols + c];
  for (int64_t j = 0; j < others; ++j) {
    const int64_t pair = of_first ? own * args.pair.rank2 + j : j * args.pair.rank2 + own;
    sum = fmaf(args.g[pair * args.pair.cols + c], other[j * args.pair.cols + c], sum);
  }
  to[own * args.pair.cols + c] = sum;
}

/// A thread an element of a row of b, then of that of b2.
LOWRANK_KERNEL(spread_pair_b, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid(), width = args.pair.rank + args.pair.rank2;
  if (at >= args.pair.rows * width) return;
  const int64_t o = at / width;
  const bool of_first = at % width < args.pair.rank;
  const int64_t own = of_first ? at % width : at % width - args.pair.rank;
  float* const to = of_first ? args.first : args.second;
  if (!to) return;
  const int64_t ranks = of_first ? args.pair.rank : args.pair.rank2,
                others = of_first ? args.pair.rank2 : args.pair.rank;
  const float* const other = (of_first ? args.pair.b2 : args.pair.b) + o * others;
  const float* const g = args.g + o * args.pair.rank * args.pair.rank2;
  float sum = 0;
  for (int64_t j = 0; j < others; ++j)
    sum = fmaf(g[of_first ? own * args.pair.rank2 + j : j * args.pair.rank2 + own], other[j], sum);
  to[o * ranks + own] += args.scale * factor_at(args.row_gains, o) * sum;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>

#include "backends/cuda/launch_pair.h"
#include "backends/cuda/parts.h"

namespace lowrank::cuda {
namespace {

constexpr auto fold = kernel_of<FoldArgs>("fold");
constexpr auto fold_gradient = kernel_of<FoldGradientArgs>("fold_gradient");
constexpr auto fold_gradient_of_ranks = kernel_of<FoldGradientArgs>("fold_gradient_of_ranks");
constexpr auto fold_snapshot = kernel_of<FoldSnapshotArgs>("fold_snapshot");
constexpr auto build_pair_a = kernel_of<PairFactorArgs>("build_pair_a");
constexpr auto fold_pair = kernel_of<PairFactorArgs>("fold_pair");
constexpr auto spread_pair_a = kernel_of<PairFactorArgs>("spread_pair_a");
constexpr auto spread_pair_b = kernel_of<PairFactorArgs>("spread_pair_b");

constexpr int64_t kStretches = 64;  // of the rows of a folded matrix

PairFactorArgs args_of(const Pair& pair) {
  PairFactorArgs args{};
  args.pair = operands_of(pair);
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

#endif
