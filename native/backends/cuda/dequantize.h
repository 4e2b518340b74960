// Kernels that decode weights, one for each format: a block of rows and columns, or rows picked by number.
#pragma once

#include "kernel.h"
#include "device_weight.h"

namespace lowrank::cuda {

/// Threads of a block, and the runs of eight elements that each of them decodes.
inline constexpr int kDequantizeThreads = 256, kDequantizeRuns = 4;

/// out[i, j] = w[i, column + j].
struct DequantizeArgs {
  DeviceWeight w;
  int64_t column, columns;  // column: a multiple of 8
  void* out;
  int64_t ld;
};

/// out[t] = w[ids[t]], fp32; a block a row.
struct DecodeRowsArgs {
  DeviceWeight w;
  const int32_t* ids;
  float* out;
  int64_t ld;
};

/// X(format) for every format of weights.
// clang-format off
#define LOWRANK_WEIGHT_FORMATS(X) \
  X(f32) X(bf16) X(f16) X(nf4) X(fp4) X(int8) X(q8_0) X(q4_0) X(q4_1) X(q5_0) X(q5_1) X(iq4_nl) X(q2_k) X(q3_k) \
  X(q4_k) X(q5_k) X(q6_k) X(iq4_xs)

#define LOWRANK_DEQUANTIZE_KERNELS_OF(X, format)   \
  X(dequantize_##format##_f32, DequantizeArgs)     \
  X(dequantize_##format##_bf16, DequantizeArgs)    \
  X(decode_rows_##format, DecodeRowsArgs)
#define LOWRANK_DEQUANTIZE_KERNELS(X)                                                       \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, f32) LOWRANK_DEQUANTIZE_KERNELS_OF(X, bf16)              \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, f16) LOWRANK_DEQUANTIZE_KERNELS_OF(X, nf4)               \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, fp4) LOWRANK_DEQUANTIZE_KERNELS_OF(X, int8)              \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q8_0) LOWRANK_DEQUANTIZE_KERNELS_OF(X, q4_0)             \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q4_1) LOWRANK_DEQUANTIZE_KERNELS_OF(X, q5_0)             \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q5_1) LOWRANK_DEQUANTIZE_KERNELS_OF(X, iq4_nl)           \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q2_k) LOWRANK_DEQUANTIZE_KERNELS_OF(X, q3_k)             \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q4_k) LOWRANK_DEQUANTIZE_KERNELS_OF(X, q5_k)             \
  LOWRANK_DEQUANTIZE_KERNELS_OF(X, q6_k) LOWRANK_DEQUANTIZE_KERNELS_OF(X, iq4_xs)
// clang-format on
LOWRANK_KERNEL_CONSTANTS(LOWRANK_DEQUANTIZE_KERNELS)

}  // namespace lowrank::cuda
