// Convolutions within columns: out = C conv(B X), or out = silu(conv(x)) if they are not gated.
#include "columns.h"

namespace lowrank::cuda {

/// The convolution: w [cols, taps], the last for the row itself; bias [cols] or null. A row reads others at lags up to
/// its position. Those before the first are in `earlier` [taps - 1, cols], at their position modulo taps - 1.
struct ConvArgs {
  const float *w, *bias;
  const int32_t* positions;
  Cells b, c, x;  // x alone if it is not gated
  const float* earlier;
  int64_t rows, cols;
  int32_t taps;
  int32_t gated;
};
struct ShortConvArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells out;
};
struct SiluConvSlopeArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells dout, dconv;
};
struct ShortConvBackwardArgs {
  Tiles tiles;
  ConvArgs conv;
  Cells dout, db, dc, dx;  // dx alone if it is not gated
};
/// Sums over stretches of rows: of weights [stretches, cols, taps], of biases [stretches, cols]. A block's third number
/// plus `first` is the lag whose weights it sums; `taps` for the biases.
struct ConvSumsArgs {
  ConvArgs conv;
  Cells dout;
  int64_t stretches, first;
  float *weights, *biases;
};
/// See KeepConvInputs; `ends` is that of the first block.
struct KeepConvInputsArgs {
  Tiles tiles;
  const int32_t* positions;
  Cells b, x;  // x alone if it is not gated
  float *last, *ends;
  int64_t block, count, gated;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"

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

#else
#include "backends/cuda/runs.h"

namespace lowrank::cuda {
namespace {

constexpr auto short_conv = kernel_of<ShortConvArgs>("short_conv");
constexpr auto silu_conv_slope = kernel_of<SiluConvSlopeArgs>("silu_conv_slope");
constexpr auto short_conv_backward = kernel_of<ShortConvBackwardArgs>("short_conv_backward");
constexpr auto short_conv_sums = kernel_of<ConvSumsArgs>("short_conv_sums");
constexpr auto keep_conv_inputs = kernel_of<KeepConvInputsArgs>("keep_conv_inputs");

ConvArgs conv_args(int64_t rows, const ConvWeights& conv, const Matrix& x, Ptr<int32_t> positions,
                   const Matrix& earlier = {}) {
  return {device_pointer(conv.w),
          device_pointer(conv.bias),
          device_pointer(positions),
          conv.gated ? cells_of(x) : Cells{},
          conv.gated ? cells_of(x.columns(conv.cols)) : Cells{},
          cells_of(conv.gated ? x.columns(2 * conv.cols) : x),
          device_pointer(earlier.data.as<float>()),
          rows,
          conv.cols,
          conv.taps,
          conv.gated};
}

}  // namespace

void run(Launcher& launcher, const ShortConv& k, Ptr<std::byte>) {
  const Tiles tiles = tiles_of(k.rows, k.conv.cols);
  launch_tiles(launcher, short_conv, {tiles, conv_args(k.rows, k.conv, k.x, k.positions, k.earlier), cells_of(k.out)});
}

void run(Launcher& launcher, const SiluConvSlope& k, Ptr<std::byte>) {
  const Tiles tiles = tiles_of(k.rows, k.conv.cols);
  launch_tiles(launcher, silu_conv_slope,
               {tiles, conv_args(k.rows, k.conv, k.x, k.positions), cells_of(k.dout), cells_of(k.dconv)});
}

void run(Launcher& launcher, const ShortConvBackward& k, Ptr<std::byte>) {
  const int64_t cols = k.conv.cols;
  const Tiles tiles = tiles_of(k.rows, cols);
  ShortConvBackwardArgs args{tiles, conv_args(k.rows, k.conv, k.x, k.positions), cells_of(k.dout), {}, {}, {}};
  if (k.conv.gated) {
    args.db = cells_of(k.dx);
    args.dc = cells_of(k.dx.columns(cols));
  }
  args.dx = cells_of(k.conv.gated ? k.dx.columns(2 * cols) : k.dx);
  launcher.launch(short_conv_backward, grid_of(tiles), kTileThreads, args);
}

void run(Launcher& launcher, const ShortConvGradient& k, Ptr<std::byte> workspace) {
  const auto& [gated, cols, taps, w, bias] = k.conv;
  const int64_t stretches = row_stretches(k.rows), weights = cols * taps;
  const Ptr<float> partial = workspace.as<float>();
  ConvSumsArgs args{};
  args.conv = conv_args(k.rows, {gated, cols, taps, {}, {}}, k.x, k.positions);
  args.dout = cells_of(k.dout);
  args.stretches = stretches;
  args.first = k.dw ? 0 : taps;
  args.weights = device_pointer(partial);
  args.biases = device_pointer(partial + stretches * weights);
  const int64_t lags = (k.dw ? taps : 0) + (k.dbias ? 1 : 0);
  launcher.launch(short_conv_sums, {(cols + kSumColumns - 1) / kSumColumns, stretches, lags}, kSumThreads, args);
  const auto add = [&](int64_t count, const float* sums, Ptr<float> to) {
    if (to) add_stretches(launcher, count, stretches, sums, nullptr, device_pointer(to));
  };
  add(weights, args.weights, k.dw);
  add(cols, args.biases, k.dbias);
}

void run(Launcher& launcher, const KeepConvInputs& k, Ptr<std::byte>) {
  const Tiles tiles = tiles_of(k.rows, k.cols);
  // The address is that of the first block, so that launches are the same for all tokens.
  const Matrix ends = k.ends.rows(-(k.past / k.block) * k.count);
  launcher.launch(keep_conv_inputs, grid_of(tiles), kTileThreads,
                  {tiles, device_pointer(k.positions), k.gated ? cells_of(k.x) : Cells{},
                   cells_of(k.gated ? k.x.columns(2 * k.cols) : k.x), device_pointer(k.last.data.as<float>()),
                   device_pointer(ends.data.as<float>()), k.block, k.count, k.gated});
}

int64_t workspace(const Card&, const ShortConvGradient& k) {
  return row_stretches(k.rows) * k.conv.cols * (k.conv.taps + 1) * int64_t{sizeof(float)};
}

}  // namespace lowrank::cuda

#endif
