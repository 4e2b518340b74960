// What treats elements one by one.
#include "cells.h"

namespace lowrank::cuda {

struct RopeArgs {
  Tiles tiles;             // of pairs: heads * half columns
  int32_t half, head_dim;  // pairs of a head, and its columns
  Cells x;
  const int32_t* positions;
  const float *cos, *sin;
  int32_t inverse;
  int32_t unused = 0;
};
/// Row i of `to` and row rows[i] of `from`, or with scatter_add_rows the other way; without rows i.
struct PickRowsArgs {
  Tiles tiles;
  Cells from;
  const int32_t* rows;
  Cells to;
};
struct CastArgs {
  int64_t count;
  const float* from;
  uint16_t* to;
};
struct AddConstantArgs {
  int64_t count;
  float* to;
  float value;
  int32_t unused = 0;
};
/// Draws below the threshold drop their element.
struct DropoutArgs {
  Tiles tiles;
  Cells x;
  uint64_t base;
  uint32_t threshold;
  float scale;
  Cells to;
};
/// Noise for the rows of one sequence, the first of which is `first_row` of the draws.
struct AddNoiseArgs {
  Tiles tiles;
  Cells y;
  int64_t first_row;
  uint64_t base;
  float bound;
  int32_t unused = 0;
};
struct ScaleColumnsArgs {
  Tiles tiles;
  Cells x;
  const float *gain, *bias;
  Cells addend;  // of null data: none
  Cells y;
};

}  // namespace lowrank::cuda

#if LOWRANK_ON_DEVICE
#include "cells.cuh"
#include "random.cuh"

namespace lowrank::cuda {
namespace {

LOWRANK_DEVICE void rotate(float& first, float& second, float c, float s) {
  const float x1 = first, x2 = second;
  first = x1 * c - x2 * s;
  second = x2 * c + x1 * s;
}

template <class T>
LOWRANK_DEVICE void rotate_one(T* x, int64_t first, int64_t second, float c, float s) {
  float x1 = to_float(x[first]), x2 = to_float(x[second]);
  rotate(x1, x2, c, s);
  x[first] = from_float<T>(x1);
  x[second] = from_float<T>(x2);
}

LOWRANK_DEVICE int64_t row_of(const PickRowsArgs& args, int64_t row) {
  return args.rows ? static_cast<int64_t>(args.rows[row]) : row;
}

}  // namespace

LOWRANK_KERNEL(rope, RopeArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  const int64_t half = args.half, table = args.positions[spot.row] * half;
  const float sign = args.inverse ? -1.0f : 1.0f;
  if (half % kColumnsAtOnce == 0 && args.head_dim % kColumnsAtOnce == 0) {
    const int64_t head = spot.col / half, pair = spot.col % half, col = head * args.head_dim + pair;
    float c[8], s[8], first[8], second[8];
    load(c, args.cos + table, pair, 8);
    load(s, args.sin + table, pair, 8);
    load(first, args.x, spot.row, col, 8);
    load(second, args.x, spot.row, col + half, 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) rotate(first[i], second[i], c[i], s[i] * sign);
    store(args.x, first, spot.row, col, 8);
    store(args.x, second, spot.row, col + half, 8);
    return;
  }
  for (int i = 0; i < spot.count; ++i) {
    const int64_t head = (spot.col + i) / half, pair = (spot.col + i) % half;
    const int64_t at = spot.row * args.x.ld + head * args.head_dim + pair;
    const float c = args.cos[table + pair], s = args.sin[table + pair] * sign;
    if (args.x.element == Element::bf16)
      rotate_one(static_cast<__nv_bfloat16*>(args.x.data), at, at + half, c, s);
    else
      rotate_one(static_cast<float*>(args.x.data), at, at + half, c, s);
  }
}

LOWRANK_KERNEL(gather_rows, PickRowsArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float v[8];
  load(v, args.from, row_of(args, spot.row), spot.col, spot.count);
  store(args.to, v, spot);
}

LOWRANK_KERNEL(scatter_add_rows, PickRowsArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  const int64_t row = row_of(args, spot.row);
  float v[8], sum[8];
  load(v, args.from, spot);
  load(sum, args.to, row, spot.col, spot.count);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] += v[i];
  store(args.to, sum, row, spot.col, spot.count);
}

LOWRANK_KERNEL(cast_bf16, CastArgs, 256, 4) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8, left = args.count - at;
  if (left <= 0) return;
  const int count = left < 8 ? static_cast<int>(left) : 8;
  float v[8];
  load_some(v, args.from + at, count, aligned16(args.from));
  store_some(reinterpret_cast<__nv_bfloat16*>(args.to) + at, v, count, aligned16(args.to));
}

LOWRANK_KERNEL(add_constant, AddConstantArgs, 256, 4) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at < args.count) args.to[at] += args.value;
}

LOWRANK_KERNEL(dropout, DropoutArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float v[8];
  uint32_t bits[8];
  load(v, args.x, spot);
  draw8(bits, args.base, static_cast<uint64_t>(spot.row * args.tiles.cols + spot.col));
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = bits[i] >= args.threshold ? v[i] * args.scale : 0.0f;
  store(args.to, v, spot);
}

LOWRANK_KERNEL(dropout_backward, DropoutArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float v[8], y[8];
  uint32_t bits[8];
  load(v, args.x, spot);
  load(y, args.to, spot);
  draw8(bits, args.base, static_cast<uint64_t>(spot.row * args.tiles.cols + spot.col));
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (bits[i] >= args.threshold) y[i] += v[i] * args.scale;
  store(args.to, y, spot);
}

LOWRANK_KERNEL(add_noise, AddNoiseArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float y[8];
  uint32_t bits[8];
  load(y, args.y, spot);
  draw8(bits, args.base, static_cast<uint64_t>((args.first_row + spot.row) * args.tiles.cols + spot.col));
#pragma unroll
  for (int i = 0; i < 8; ++i) y[i] += args.bound * ((static_cast<float>(bits[i] >> 8) + 0.5f) * 0x1p-23f - 1.0f);
  store(args.y, y, spot);
}

LOWRANK_KERNEL(scale_columns, ScaleColumnsArgs, kTileThreads, 4) {
  const Spot spot = spot_of(args.tiles);
  if (spot.count <= 0) return;
  float v[8], more[8];
  load(v, args.x, spot);
  load(more, args.gain, spot.col, spot.count);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] *= more[i];
  if (args.bias) {
    load(more, args.bias, spot.col, spot.count);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += more[i];
  }
  if (args.addend.data) {
    load(more, args.addend, spot);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += more[i];
  }
  store(args.y, v, spot);
}

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <cmath>

#include "core/random.h"

namespace lowrank::cuda {
namespace {

constexpr auto rope = kernel_of<RopeArgs>("rope");
constexpr auto gather_rows = kernel_of<PickRowsArgs>("gather_rows");
constexpr auto scatter_add_rows = kernel_of<PickRowsArgs>("scatter_add_rows");
constexpr auto cast_bf16 = kernel_of<CastArgs>("cast_bf16");
constexpr auto add_constant = kernel_of<AddConstantArgs>("add_constant");
constexpr auto dropout = kernel_of<DropoutArgs>("dropout");
constexpr auto dropout_backward = kernel_of<DropoutArgs>("dropout_backward");
constexpr auto add_noise = kernel_of<AddNoiseArgs>("add_noise");
constexpr auto scale_columns = kernel_of<ScaleColumnsArgs>("scale_columns");

constexpr int kFlatThreads = 256;

/// An element is kept when its draw is at least this.
uint32_t drop_threshold(float p) {
  const double threshold = static_cast<double>(p) * 4294967296.0;
  return threshold >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(threshold);
}

/// Start of the draws of a key.
uint64_t hash_base(uint64_t key) { return mix(key + 0x9e3779b97f4a7c15u); }

template <class Kernel>
DropoutArgs dropout_args(const Kernel& k, const Matrix& to) {
  return {tiles_of(k.rows, k.cols), cells_of(k.x),       hash_base(k.key),
          drop_threshold(k.p),      1.0f / (1.0f - k.p), cells_of(to)};
}

}  // namespace

void run(Launcher& launcher, const Rope& k, Ptr<std::byte>) {
  const int32_t half = k.turned / 2;
  launch_tiles(launcher, rope,
               {tiles_of(k.rows, int64_t{k.heads} * half), half, k.head_dim, cells_of(k.x), device_pointer(k.positions),
                device_pointer(k.cos), device_pointer(k.sin), k.inverse});
}

void run(Launcher& launcher, const GatherRows& k, Ptr<std::byte>) {
  launch_tiles(launcher, gather_rows,
               {tiles_of(k.count, k.cols), cells_of(k.x), device_pointer(k.rows), cells_of(k.out)});
}

void run(Launcher& launcher, const ScatterAddRows& k, Ptr<std::byte>) {
  launch_tiles(launcher, scatter_add_rows,
               {tiles_of(k.count, k.cols), cells_of(k.x), device_pointer(k.rows), cells_of(k.out)});
}

void run(Launcher& launcher, const Zero& k, Ptr<std::byte>) {
  if (k.bytes > 0) launcher.zero(k.to, k.bytes);
}

void run(Launcher& launcher, const Cast& k, Ptr<std::byte>) {
  launcher.launch(cast_bf16, blocks_of((k.count + 7) / 8, kFlatThreads), kFlatThreads,
                  {k.count, device_pointer(k.from), device_pointer(k.to)});
}

void run(Launcher& launcher, const AddConstant& k, Ptr<std::byte>) {
  launcher.launch(add_constant, blocks_of(k.count, kFlatThreads), kFlatThreads,
                  {k.count, device_pointer(k.to), k.value});
}

void run(Launcher& launcher, const Dropout& k, Ptr<std::byte>) {
  launch_tiles(launcher, dropout, dropout_args(k, k.out));
}

void run(Launcher& launcher, const DropoutBackward& k, Ptr<std::byte>) {
  launch_tiles(launcher, dropout_backward, dropout_args(k, k.y));
}

void run(Launcher& launcher, const AddNoise& k, Ptr<std::byte>) {
  for (size_t s = 0; s + 1 < k.host_seqlens.size(); ++s) {
    const int64_t first = k.host_seqlens[s], count = k.host_seqlens[s + 1] - first;
    if (count == 0) continue;
    const double elements = static_cast<double>(count) * static_cast<double>(k.cols);
    launch_tiles(launcher, add_noise,
                 {tiles_of(count, k.cols), cells_of(k.y.rows(first)), first, hash_base(k.key),
                  static_cast<float>(k.alpha / std::sqrt(elements))});
  }
}

void run(Launcher& launcher, const ScaleColumns& k, Ptr<std::byte>) {
  launch_tiles(launcher, scale_columns,
               {tiles_of(k.rows, k.cols), cells_of(k.x), device_pointer(k.gain), device_pointer(k.bias),
                cells_of(k.addend), cells_of(k.y)});
}

}  // namespace lowrank::cuda

#endif
