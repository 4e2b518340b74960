#include "cells.cuh"
#include "columns.h"

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
