// Sums over the rows of each column, in two stages: of stretches of rows, then over the stretches in order.
#include "columns.h"

namespace lowrank::cuda {

/// partial[stretch, col] = sum over the stretch's rows of dy (times x) (times rstd of the row).
struct ColumnSumsArgs {
  int64_t rows, groups, cols, stretches;  // a group of a row's columns is a row of its own; dx and gain have one group
  Cells dy;
  Cells x;            // of null data: none
  const float* rstd;  // [rows]; null: ones
  // If dx has data: dx = dy gain; dx and dy may be the same memory.
  const float* gain;
  Cells dx;
  float* partial;
};
/// to[col] += share[col] * the sum of the stretches; null share: ones.
struct AddColumnSumsArgs {
  int64_t cols, stretches;
  const float *partial, *share;
  float* to;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

namespace lowrank::cuda {

/// A lane has eight columns; the warps of a block take turns at the rows of a stretch.
LOWRANK_KERNEL(column_sums, ColumnSumsArgs, kSumThreads, 2) {
  constexpr int kWarps = kSumThreads / 32;
  LOWRANK_SHARED(float, sums, [kWarps * kSumColumns]);
  const int warp = static_cast<int>(threadIdx.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kSumColumns, col = tile + lane * 8, left = args.cols - col;
  const int count = left < 8 ? (left > 0 ? static_cast<int>(left) : 0) : 8;
  const int64_t begin = blockIdx.y * args.rows / args.stretches,
                end = (blockIdx.y + int64_t{1}) * args.rows / args.stretches;
  float sum[8] = {};
  if (count > 0) {
    float gain[8] = {};
    if (args.dx.data) load(gain, args.gain, col, count);
    for (int64_t row = begin + warp; row < end; row += kWarps) {
      const int64_t line = args.groups == 1 ? row : row / args.groups,
                    at = (row - line * args.groups) * args.cols + col;
      float dy[8];
      load(dy, args.dy, line, at, count);
      float term[8];
      if (args.x.data) {
        load(term, args.x, line, at, count);
#pragma unroll
        for (int i = 0; i < 8; ++i) term[i] *= dy[i];
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) term[i] = dy[i];
      }
      const float scale = args.rstd ? args.rstd[row] : 1.0f;
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] = fmaf(term[i], scale, sum[i]);
      if (args.dx.data) {
#pragma unroll
        for (int i = 0; i < 8; ++i) dy[i] *= gain[i];
        store(args.dx, dy, row, col, count);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[warp * kSumColumns + i * 32 + lane] = sum[i];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.x);
  float total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += sums[w * kSumColumns + thread];
  const int64_t own = tile + (thread & 31) * 8 + (thread >> 5);
  if (own < args.cols) args.partial[blockIdx.y * args.cols + own] = total;
}

LOWRANK_KERNEL(add_column_sums, AddColumnSumsArgs, kSumThreads, 4) {
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (col >= args.cols) return;
  float total = 0;
  for (int64_t stretch = 0; stretch < args.stretches; ++stretch) total += args.partial[stretch * args.cols + col];
  args.to[col] += args.share ? total * args.share[col] : total;
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

constexpr auto column_sums = kernel_of<ColumnSumsArgs>("column_sums");
constexpr auto add_column_sums = kernel_of<AddColumnSumsArgs>("add_column_sums");

int64_t bytes_of(int64_t rows, int64_t cols) { return row_stretches(rows) * cols * int64_t{sizeof(float)}; }

/// @param args without stretches and partial sums
void add_sums(Launcher& launcher, ColumnSumsArgs args, const float* share, float* to, Ptr<std::byte> workspace) {
  if (args.cols == 0) return;
  args.stretches = row_stretches(args.rows);
  args.partial = device_pointer(workspace.as<float>());
  launcher.launch(column_sums, {(args.cols + kSumColumns - 1) / kSumColumns, args.stretches}, kSumThreads, args);
  add_stretches(launcher, args.cols, args.stretches, args.partial, share, to);
}

}  // namespace

int64_t row_stretches(int64_t rows) {
  constexpr int64_t kMost = 64, kLeastRows = 32;
  return std::clamp<int64_t>((rows + kLeastRows - 1) / kLeastRows, 1, kMost);
}

void add_stretches(Launcher& launcher, int64_t cols, int64_t stretches, const float* partial, const float* share,
                   float* to) {
  launcher.launch(add_column_sums, blocks_of(cols, kSumThreads), kSumThreads, {cols, stretches, partial, share, to});
}

void run(Launcher& launcher, const NormGradient& k, Ptr<std::byte> workspace) {
  add_sums(launcher,
           {k.rows * k.groups,
            k.groups,
            k.cols,
            0,
            grouped_cells(k.dy, k.groups, k.cols),
            grouped_cells(k.x, k.groups, k.cols),
            device_pointer(k.rstd),
            nullptr,
            {},
            nullptr},
           nullptr, device_pointer(k.dw), workspace);
}

void run(Launcher& launcher, const BiasGradient& k, Ptr<std::byte> workspace) {
  add_sums(launcher, {k.rows, 1, k.cols, 0, cells_of(k.dy), {}, nullptr, nullptr, {}, nullptr}, nullptr,
           device_pointer(k.db), workspace);
}

void run(Launcher& launcher, const ScaleColumnsBackward& k, Ptr<std::byte> workspace) {
  add_sums(
      launcher,
      {k.rows, 1, k.cols, 0, cells_of(k.dy), cells_of(k.x), nullptr, device_pointer(k.gain), cells_of(k.dx), nullptr},
      device_pointer(k.share), device_pointer(k.dgain), workspace);
}

int64_t workspace(const Card&, const NormGradient& k) { return bytes_of(k.rows * k.groups, k.cols); }
int64_t workspace(const Card&, const BiasGradient& k) { return bytes_of(k.rows, k.cols); }
int64_t workspace(const Card&, const ScaleColumnsBackward& k) { return bytes_of(k.rows, k.cols); }

}  // namespace lowrank::cuda

#endif
