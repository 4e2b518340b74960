// Access to elements of several types, eight at a time.
#pragma once

#include "cells.h"
#include "device.cuh"

namespace lowrank::cuda {

/// The columns of a thread: `count` of them, at most eight, from (row, col) on.
struct Spot {
  int64_t row, col;
  int count;
};
LOWRANK_DEVICE Spot spot_of(const Tiles& tiles) {
  const int thread = static_cast<int>(threadIdx.x), across = 1 << tiles.shift;
  Spot spot;
  spot.row = static_cast<int64_t>(blockIdx.x) * (kTileThreads >> tiles.shift) + (thread >> tiles.shift);
  spot.col = (static_cast<int64_t>(blockIdx.y) * across + (thread & (across - 1))) * kColumnsAtOnce;
  const int64_t left = spot.row < tiles.rows ? tiles.cols - spot.col : 0;
  spot.count = static_cast<int>(left < kColumnsAtOnce ? left : kColumnsAtOnce);
  return spot;
}

LOWRANK_DEVICE void load_wide(float (&v)[8], const float* at) {
  const Pack<float> low = load16(at), high = load16(at + 4);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[i] = low.at[i];
    v[4 + i] = high.at[i];
  }
}
template <class T>
LOWRANK_DEVICE void load_wide(float (&v)[8], const T* at) {
  const Pack<T> all = load16(at);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = to_float(all.at[i]);
}
LOWRANK_DEVICE void store_wide(float* at, const float (&v)[8]) {
  store16(at, Pack<float>{{v[0], v[1], v[2], v[3]}});
  store16(at + 4, Pack<float>{{v[4], v[5], v[6], v[7]}});
}
LOWRANK_DEVICE void store_wide(__nv_bfloat16* at, const float (&v)[8]) {
  store16(reinterpret_cast<uint32_t*>(at),
          Pack<uint32_t>{{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])}});
}

template <class T>
LOWRANK_DEVICE void load_some(float (&v)[8], const T* at, int count, bool wide) {
  if (wide && count == 8) return load_wide(v, at);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = i < count ? to_float(at[i]) : 0.0f;
}
template <class T>
LOWRANK_DEVICE void store_some(T* at, const float (&v)[8], int count, bool wide) {
  if (wide && count == 8) return store_wide(at, v);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) at[i] = from_float<T>(v[i]);
}

/// `count` elements from (row, col) on, and zeros for the others; col is a multiple of eight.
LOWRANK_DEVICE void load(float (&v)[8], const Cells& from, int64_t row, int64_t col, int count) {
  const int64_t at = row * from.ld + col;
  if (from.element == Element::bf16)
    return load_some(v, static_cast<const __nv_bfloat16*>(from.data) + at, count, from.wide);
  if (from.element == Element::f32) return load_some(v, static_cast<const float*>(from.data) + at, count, from.wide);
  load_some(v, static_cast<const __half*>(from.data) + at, count, from.wide);
}
LOWRANK_DEVICE void load(float (&v)[8], const Cells& from, const Spot& spot) {
  load(v, from, spot.row, spot.col, spot.count);
}
/// f32, or rounded to bf16.
LOWRANK_DEVICE void store(const Cells& to, const float (&v)[8], int64_t row, int64_t col, int count) {
  const int64_t at = row * to.ld + col;
  if (to.element == Element::bf16) return store_some(static_cast<__nv_bfloat16*>(to.data) + at, v, count, to.wide);
  store_some(static_cast<float*>(to.data) + at, v, count, to.wide);
}
LOWRANK_DEVICE void store(const Cells& to, const float (&v)[8], const Spot& spot) {
  store(to, v, spot.row, spot.col, spot.count);
}
/// The same of a vector, whose elements stand for the columns of a matrix.
LOWRANK_DEVICE void load(float (&v)[8], const float* from, int64_t col, int count) {
  load_some(v, from + col, count, aligned16(from));
}

}  // namespace lowrank::cuda
