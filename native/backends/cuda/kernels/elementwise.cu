#include "cells.cuh"
#include "elementwise.h"
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
