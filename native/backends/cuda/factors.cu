#include "device.cuh"
#include "factors.h"

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
  if (at >= args.rank * args.rank2 * args.cols) return;
  const int64_t row = at / args.cols, c = at % args.cols;
  args.out[at] = args.a[row / args.rank2 * args.cols + c] * args.a2[row % args.rank2 * args.cols + c];
}

LOWRANK_KERNEL(fold_pair, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid(), width = args.rank * args.rank2;
  if (at >= args.rows * width) return;
  const int64_t o = at / width, i = at % width / args.rank2, j = at % args.rank2;
  const float row = args.weight * args.scale * factor_at(args.row_gains, o);
  args.out[at] = row * args.b[o * args.rank + i] * args.b2[o * args.rank2 + j];
}

/// A thread an element of a, then of a2.
LOWRANK_KERNEL(spread_pair_a, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid();
  if (at >= (args.rank + args.rank2) * args.cols) return;
  const int64_t row = at / args.cols, c = at % args.cols;
  const bool of_first = row < args.rank;
  const int64_t own = of_first ? row : row - args.rank, others = of_first ? args.rank2 : args.rank;
  float* const to = of_first ? args.first : args.second;
  const float* const other = of_first ? args.a2 : args.a;
  if (!to) return;
  float sum = to[own * args.cols + c];
  for (int64_t j = 0; j < others; ++j) {
    const int64_t pair = of_first ? own * args.rank2 + j : j * args.rank2 + own;
    sum = fmaf(args.g[pair * args.cols + c], other[j * args.cols + c], sum);
  }
  to[own * args.cols + c] = sum;
}

/// A thread an element of a row of b, then of that of b2.
LOWRANK_KERNEL(spread_pair_b, PairFactorArgs, 256, 4) {
  const int64_t at = thread_of_grid(), width = args.rank + args.rank2;
  if (at >= args.rows * width) return;
  const int64_t o = at / width;
  const bool of_first = at % width < args.rank;
  const int64_t own = of_first ? at % width : at % width - args.rank;
  float* const to = of_first ? args.first : args.second;
  if (!to) return;
  const int64_t ranks = of_first ? args.rank : args.rank2, others = of_first ? args.rank2 : args.rank;
  const float* const other = (of_first ? args.b2 : args.b) + o * others;
  const float* const g = args.g + o * args.rank * args.rank2;
  float sum = 0;
  for (int64_t j = 0; j < others; ++j)
    sum = fmaf(g[of_first ? own * args.rank2 + j : j * args.rank2 + own], other[j], sum);
  to[o * ranks + own] += args.scale * factor_at(args.row_gains, o) * sum;
}

}  // namespace lowrank::cuda
