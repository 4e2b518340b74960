// A weight matrix as CUDA kernels take it, by value. Layouts are those of quant/weight.h.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

enum class DeviceFormat : int32_t {
  f32,
  bf16,
  f16,
  nf4,
  fp4,
  int8,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  iq4_nl,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_xs,
};

struct DeviceWeight {
  DeviceFormat format;
  float absmax_offset;
  int64_t rows, cols;
  /// Row of the stored matrix that row 0 is. `data` and the scales point to row 0 of the stored matrix, so a range of
  /// rows is the same pointers with another `first`. Negative where memory holds only the rows from -first on.
  int64_t first;
  const void* data;  // aligned to 16 bytes
  int64_t ld;        // f32, bf16, f16, int8: elements from row to row
  const float* absmax;
  const uint8_t* absmax_codes;
  const float* nested_absmax;
  int64_t nested_skip;
  int64_t head_rows;
};

constexpr DeviceWeight rows_of(DeviceWeight weight, int64_t begin, int64_t count) {
  weight.first += begin;
  weight.rows = count;
  return weight;
}

constexpr bool is_four_bit(DeviceFormat format) { return format == DeviceFormat::nf4 || format == DeviceFormat::fp4; }
constexpr bool is_ggml(DeviceFormat format) { return format >= DeviceFormat::q8_0; }

/// Bytes of an element of a dense format, or of an int8 code.
constexpr int64_t element_bytes(DeviceFormat format) {
  return format == DeviceFormat::f32 ? 4 : format == DeviceFormat::int8 ? 1 : 2;
}

/// Position of a row in a GGUF file of the llama architecture; see quant/weight.h.
constexpr int64_t stored_row(const DeviceWeight& weight, int64_t row) {
  row += weight.first;
  if (weight.head_rows == 0) return row;
  const int64_t in_head = row % weight.head_rows, half = weight.head_rows / 2;
  return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

/// X(format) for every format of weights.
// clang-format off
#define LOWRANK_WEIGHT_FORMATS(X) \
  X(f32) X(bf16) X(f16) X(nf4) X(fp4) X(int8) X(q8_0) X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(iq4_nl) X(q2_k) X(q3_k) \
  X(q4_k) X(q5_k) X(q6_k) X(iq4_xs)
// clang-format on

}  // namespace lowrank::cuda
