// Tokens of a gated delta rule, as both passes read them.
#pragma once

#include "cells.cuh"
#include "delta_rule.h"

namespace lowrank::cuda {

inline constexpr int kBuffers = 3;  // of queries and keys: one is filled while others may still be read

LOWRANK_DEVICE float get(const Cells& from, int64_t row, int64_t col) {
  const int64_t at = row * from.ld + col;
  return from.element == Element::f32 ? static_cast<const float*>(from.data)[at]
                                      : to_float(static_cast<const __nv_bfloat16*>(from.data)[at]);
}
LOWRANK_DEVICE void put(const Cells& to, int64_t row, int64_t col, float value) {
  const int64_t at = row * to.ld + col;
  if (to.element == Element::f32)
    static_cast<float*>(to.data)[at] = value;
  else
    static_cast<__nv_bfloat16*>(to.data)[at] = from_float<__nv_bfloat16>(value);
}

/// A head of a sequence, and the column of this thread.
struct Place {
  int64_t begin, end;
  int head, key_head, col;
  bool inside;
};
LOWRANK_DEVICE Place place_of(const DeltaArgs& in, int64_t unit, int tile) {
  Place place;
  const int64_t sequence = unit / in.heads;
  place.head = static_cast<int>(unit % in.heads);
  place.key_head = place.head / (in.heads / in.key_heads);
  place.begin = in.seqlens ? in.seqlens[sequence] : 0;
  place.end = in.seqlens ? in.seqlens[sequence + 1] : in.tokens;
  place.col = tile * kDeltaCols + lane_of();
  place.inside = place.col < in.value_dim;
  return place;
}

/// Numbers of a token for one thread, beside queries and keys; zeros after the last one.
struct Token {
  float value, beta, decay, product;
};
LOWRANK_DEVICE Token token_of(const DeltaArgs& in, const Place& place, int64_t row) {
  Token token{};
  if (row >= place.end) return token;
  if (place.inside)
    token.value =
        get(in.x, row, int64_t{2} * in.key_heads * in.key_dim + int64_t{place.head} * in.value_dim + place.col);
  const float* const gates = in.gates + (row * in.heads + place.head) * 3;
  token.beta = gates[0];
  token.decay = gates[1];
  token.product = in.norms[(row * in.key_heads + place.key_head) * 3 + 2];
  return token;
}

/// A number of the query (threads of the first half) or the key of a row, over its norm.
LOWRANK_DEVICE float unit_number(const DeltaArgs& in, const Place& place, int64_t row) {
  const int i = static_cast<int>(threadIdx.x) % kMostKeyDim, which = static_cast<int>(threadIdx.x) / kMostKeyDim;
  if (row < place.begin || row >= place.end || i >= in.key_dim) return 0;
  const int64_t first = (int64_t{which} * in.key_heads + place.key_head) * in.key_dim;
  return get(in.x, row, first + i) * in.norms[(row * in.key_heads + place.key_head) * 3 + which];
}

LOWRANK_DEVICE float sum_of_warps(const float* parts) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kDeltaWarps; ++w) sum += parts[w * kDeltaCols + lane_of()];
  return sum;
}

}  // namespace lowrank::cuda
