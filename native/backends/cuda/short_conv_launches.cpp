#include "backends/cuda/short_conv_launches.h"

#include "backends/cuda/columns.h"
#include "backends/cuda/launch_cells.h"
#include "backends/cuda/short_conv.h"

namespace lowrank::cuda {
namespace {

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
  launcher.launch(short_conv, grid_of(tiles), kTileThreads,
                  {tiles, conv_args(k.rows, k.conv, k.x, k.positions, k.earlier), cells_of(k.out)});
}

void run(Launcher& launcher, const SiluConvSlope& k, Ptr<std::byte>) {
  const Tiles tiles = tiles_of(k.rows, k.conv.cols);
  launcher.launch(silu_conv_slope, grid_of(tiles), kTileThreads,
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
