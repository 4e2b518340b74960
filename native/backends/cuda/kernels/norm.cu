#include "cells.cuh"
#include "norm.h"

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
