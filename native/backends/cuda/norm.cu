// Normalization by the root mean square.
#include "cells.h"

namespace lowrank::cuda {

/// A group of columns of a row belongs to a warp, or where `whole_block` is set to a block.
struct RmsNormArgs {
  int64_t rows, groups, cols;
  int32_t whole_block;
  float eps;
  Cells x;
  const float* w;
  Cells y;
  float* rstd;
};
struct RmsNormBackwardArgs {
  int64_t rows, groups, cols;
  int32_t whole_block;
  int32_t adds;  // to dx
  Cells dy, x;
  const float *w, *rstd;
  Cells dx;
};
inline constexpr int kNormThreads = 256;

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

namespace lowrank::cuda {
namespace {

/// The threads that share a group of columns of a row, which all call sum().
struct Team {
  int64_t number;
  int rank, size;
  bool whole_block;

  __device__ float sum(float v) const { return whole_block ? block_sum(v) : warp_sum(v); }
};
LOWRANK_DEVICE Team team_of(bool whole_block) {
  const int thread = static_cast<int>(threadIdx.x);
  if (whole_block) return {static_cast<int64_t>(blockIdx.x), thread, kNormThreads, true};
  return {static_cast<int64_t>(blockIdx.x) * (kNormThreads / 32) + (thread >> 5), thread & 31, 32, false};
}

/// A row, and the first of the columns of a group.
struct Place {
  int64_t row, first;
};
LOWRANK_DEVICE Place place_of(int64_t team, int64_t groups, int64_t cols) {
  if (groups == 1) return {team, 0};
  const int64_t row = team / groups;
  return {row, (team - row * groups) * cols};
}

LOWRANK_DEVICE int count_at(int64_t col, int64_t cols) { return cols - col < 8 ? static_cast<int>(cols - col) : 8; }

}  // namespace

LOWRANK_KERNEL(rms_norm, RmsNormArgs, kNormThreads, 4) {
  const Team team = team_of(args.whole_block);
  if (team.number >= args.rows * args.groups) return;
  const Place at = place_of(team.number, args.groups, args.cols);
  float squares = 0;
  for (int64_t col = team.rank * 8; col < args.cols; col += team.size * 8) {
    float x[8];
    load(x, args.x, at.row, at.first + col, count_at(col, args.cols));
#pragma unroll
    for (int i = 0; i < 8; ++i) squares = fmaf(x[i], x[i], squares);
  }
  const float rstd = 1.0f / sqrtf(team.sum(squares) / static_cast<float>(args.cols) + args.eps);
  for (int64_t col = team.rank * 8; col < args.cols; col += team.size * 8) {
    const int count = count_at(col, args.cols);
    float x[8], w[8];
    load(x, args.x, at.row, at.first + col, count);
    load(w, args.w, col, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = x[i] * rstd * w[i];
    store(args.y, x, at.row, at.first + col, count);
  }
  if (team.rank == 0) args.rstd[team.number] = rstd;
}

LOWRANK_KERNEL(rms_norm_backward, RmsNormBackwardArgs, kNormThreads, 4) {
  const Team team = team_of(args.whole_block);
  if (team.number >= args.rows * args.groups) return;
  const Place at = place_of(team.number, args.groups, args.cols);
  float products = 0;
  for (int64_t col = team.rank * 8; col < args.cols; col += team.size * 8) {
    const int count = count_at(col, args.cols);
    float dy[8], x[8], w[8];
    load(dy, args.dy, at.row, at.first + col, count);
    load(x, args.x, at.row, at.first + col, count);
    load(w, args.w, col, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) products = fmaf(dy[i] * w[i], x[i], products);
  }
  const float rstd = args.rstd[team.number];
  const float share = rstd * rstd * (team.sum(products) / static_cast<float>(args.cols));
  for (int64_t col = team.rank * 8; col < args.cols; col += team.size * 8) {
    const int count = count_at(col, args.cols);
    float dy[8], x[8], w[8];
    load(dy, args.dy, at.row, at.first + col, count);
    load(x, args.x, at.row, at.first + col, count);
    load(w, args.w, col, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) dy[i] = rstd * (dy[i] * w[i] - x[i] * share);
    if (args.adds) {
      load(x, args.dx, at.row, at.first + col, count);
#pragma unroll
      for (int i = 0; i < 8; ++i) dy[i] += x[i];
    }
    store(args.dx, dy, at.row, at.first + col, count);
  }
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

constexpr auto rms_norm = kernel_of<RmsNormArgs>("rms_norm");
constexpr auto rms_norm_backward = kernel_of<RmsNormBackwardArgs>("rms_norm_backward");

/// Columns up to which a warp takes a row.
constexpr int64_t kMostOfWarp = 1024;

Grid grid_of(int64_t groups, bool whole_block) {
  constexpr int64_t kWarps = kNormThreads / 32;
  return {whole_block ? groups : (groups + kWarps - 1) / kWarps};
}

}  // namespace

void run(Launcher& launcher, const RmsNorm& k, Ptr<std::byte>) {
  const bool whole_block = k.cols > kMostOfWarp;
  launcher.launch(rms_norm, grid_of(k.rows * k.groups, whole_block), kNormThreads,
                  {k.rows, k.groups, k.cols, whole_block, k.eps, grouped_cells(k.x, k.groups, k.cols),
                   device_pointer(k.w), grouped_cells(k.y, k.groups, k.cols), device_pointer(k.rstd)});
}

void run(Launcher& launcher, const RmsNormBackward& k, Ptr<std::byte>) {
  const bool whole_block = k.cols > kMostOfWarp, adds = k.dx.data.address() != k.dy.data.address();
  launcher.launch(rms_norm_backward, grid_of(k.rows * k.groups, whole_block), kNormThreads,
                  {k.rows, k.groups, k.cols, whole_block, adds, grouped_cells(k.dy, k.groups, k.cols),
                   grouped_cells(k.x, k.groups, k.cols), device_pointer(k.w), device_pointer(k.rstd),
                   grouped_cells(k.dx, k.groups, k.cols)});
}

}  // namespace lowrank::cuda

#endif
