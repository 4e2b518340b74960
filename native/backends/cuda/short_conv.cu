#include "cells.cuh"
#include "columns.h"
#include "short_conv.h"

namespace lowrank::cuda {
namespace {

/// Lags at which a row reads others, or itself.
LOWRANK_DEVICE int64_t lags_of(const ConvArgs& conv, int64_t row) {
  const int64_t position = conv.positions[row];
  return position < conv.taps ? position + 1 : conv.taps;
}

/// v times the elements of a factor, which is none if the convolution is not gated.
LOWRANK_DEVICE void multiply_gated(float (&v)[8], bool gated, const Cells& factor, int64_t row, int64_t col,
                                   int count) {
  if (!gated) return;
  float other[8];
  load(other, factor, row, col, count);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] *= other[i];
}

/// Inputs of a convolution: B X, or x.
LOWRANK_DEVICE void load_input(float (&v)[8], const ConvArgs& conv, int64_t row, int64_t col, int count) {
  load(v, conv.x, row, col, count);
  multiply_gated(v, conv.gated, conv.b, row, col, count);
}

/// Gradient of a convolution: dout C, or `dout` itself.
LOWRANK_DEVICE void load_gradient(float (&v)[8], const ConvArgs& conv, const Cells& dout, int64_t row, int64_t col,
                                  int count) {
  load(v, dout, row, col, count);
  multiply_gated(v, conv.gated, conv.c, row, col, count);
}

LOWRANK_DEVICE float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

/// sum += v times the weights of a lag.
LOWRANK_DEVICE void add_weighted(float (&sum)[8], const ConvArgs& conv, const float (&v)[8], int64_t lag, int64_t col,
                                 int count) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) sum[i] = fmaf(v[i], conv.w[(col + i + 1) * conv.taps - 1 - lag], sum[i]);
}

LOWRANK_DEVICE void convolve(float (&sum)[8], const ConvArgs& conv, int64_t row, int64_t col, int count) {
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] = 0;
  if (conv.bias) load(sum, conv.bias, col, count);
  const int64_t lags = lags_of(conv, row);
  for (int64_t lag = 0; lag < lags; ++lag) {
    float v[8];
    if (lag <= row)
      load_input(v, conv, row - lag, col, count);
    else
      load(v, conv.earlier + (conv.positions[row] - lag) % (conv.taps - 1) * conv.cols, col, count);
    add_weighted(sum, conv, v, lag, col, count);
  }
}

}  // namespace

LOWRANK_KERNEL(short_conv, ShortConvArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float sum[8], c[8];
  convolve(sum, args.conv, spot.row, spot.col, spot.count);
  if (args.conv.gated) {
    load(c, args.conv.c, spot);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) c[i] = sigmoid(sum[i]);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] *= c[i];
  store(args.out, sum, spot);
}

LOWRANK_KERNEL(silu_conv_slope, SiluConvSlopeArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float sum[8], d[8];
  convolve(sum, args.conv, spot.row, spot.col, spot.count);
  load(d, args.dout, spot);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float s = sigmoid(sum[i]);
    d[i] *= s * (1.0f + sum[i] * (1.0f - s));
  }
  store(args.dconv, d, spot);
}

LOWRANK_KERNEL(short_conv_backward, ShortConvBackwardArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  const ConvArgs& conv = args.conv;
  float sum[8], v[8];
  if (conv.gated) {
    convolve(sum, conv, spot.row, spot.col, spot.count);
    load(v, args.dout, spot);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] *= v[i];
    store(args.dc, sum, spot);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] = 0;
  for (int64_t lag = 0; lag < conv.taps; ++lag) {
    const int64_t row = spot.row + lag;
    if (row >= conv.rows || lag >= lags_of(conv, row)) break;
    load_gradient(v, conv, args.dout, row, spot.col, spot.count);
    add_weighted(sum, conv, v, lag, spot.col, spot.count);
  }
  if (!conv.gated) return store(args.dx, sum, spot);
  float product[8];
  load(v, conv.x, spot);
#pragma unroll
  for (int i = 0; i < 8; ++i) product[i] = sum[i] * v[i];
  store(args.db, product, spot);
  load(v, conv.b, spot);
#pragma unroll
  for (int i = 0; i < 8; ++i) product[i] = sum[i] * v[i];
  store(args.dx, product, spot);
}

/// A lane has eight columns; the warps of a block take turns at the rows of a stretch.
LOWRANK_KERNEL(short_conv_sums, ConvSumsArgs, kSumThreads, 2) {
  constexpr int kWarps = kSumThreads / 32;
  LOWRANK_SHARED(float, sums, [kWarps * kSumColumns]);
  const ConvArgs& conv = args.conv;
  const int thread = static_cast<int>(threadIdx.x), warp = thread >> 5, lane = thread & 31;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * kSumColumns, col = tile + lane * 8, left = conv.cols - col;
  const int count = left < 8 ? (left > 0 ? static_cast<int>(left) : 0) : 8;
  const int64_t begin = blockIdx.y * conv.rows / args.stretches,
                end = (blockIdx.y + int64_t{1}) * conv.rows / args.stretches;
  const int64_t lag = args.first + blockIdx.z;
  const bool biases = lag == conv.taps;
  float sum[8] = {};
  for (int64_t row = begin + warp; count > 0 && row < end; row += kWarps) {
    if (!biases && lag >= lags_of(conv, row)) continue;
    float g[8];
    load_gradient(g, conv, args.dout, row, col, count);
    if (!biases) {
      float v[8];
      load_input(v, conv, row - lag, col, count);
#pragma unroll
      for (int i = 0; i < 8; ++i) g[i] *= v[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += g[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[warp * kSumColumns + i * 32 + lane] = sum[i];
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) total += sums[w * kSumColumns + thread];
  const int64_t own = tile + (thread & 31) * 8 + (thread >> 5);
  if (own >= conv.cols) return;
  if (biases)
    args.biases[blockIdx.y * conv.cols + own] = total;
  else
    args.weights[(blockIdx.y * conv.cols + own + 1) * conv.taps - 1 - lag] = total;
}

LOWRANK_KERNEL(keep_conv_inputs, KeepConvInputsArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  const int64_t position = args.positions[0] + spot.row, slot = position % args.count;
  const bool last = spot.row >= args.tiles.rows - args.count, end = position % args.block >= args.block - args.count;
  if (!last && !end) return;
  float v[8];
  load(v, args.x, spot);
  multiply_gated(v, args.gated, args.b, spot.row, spot.col, spot.count);
  const auto keep = [&](float* rows, int64_t row) {
    float* const to = rows + row * args.tiles.cols + spot.col;
    store_some(to, v, spot.count, aligned16(to));
  };
  if (last) keep(args.last, slot);
  if (end) keep(args.ends, position / args.block * args.count + slot);
}

}  // namespace lowrank::cuda
