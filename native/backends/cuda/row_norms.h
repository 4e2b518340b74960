// Sums in double over rows of weights, of adapters and of activations.
#pragma once

#include "dequantize.h"
#include "kernel.h"
#include "device_weight.h"

namespace lowrank::cuda {

/// out[i] = ||W_i + B_i A|| as in AdaptedRowNorms of kernels/adapter_kernels.h; or, where `own` is there, own[i] =
/// ||W_i||^2.
struct RowNormsArgs {
  DeviceWeight w;
  double* own;
  const float* a;
  int64_t a_ld;
  const float* b;
  int64_t rank;
  const double* squares;
  const float* products;
  const double* gram;
  float* out;
};

struct GramArgs {
  int64_t rank, cols;
  const float* a;
  int64_t ld;
  double* out;
};

/// Sums of stretches of tokens, then moment += their sum.
struct SecondMomentArgs {
  int64_t tokens, rank, stretch, stretches;
  const void* h;
  int64_t ld;
  int64_t bf16;
  double *parts, *moment;
};

#define LOWRANK_ROW_NORMS_KERNEL_OF(X, format) X(row_norms_##format, RowNormsArgs)
// clang-format off
#define LOWRANK_ROW_NORMS_KERNELS(X)                                                                      \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, f32) LOWRANK_ROW_NORMS_KERNEL_OF(X, bf16)                                \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, f16) LOWRANK_ROW_NORMS_KERNEL_OF(X, nf4)                                 \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, fp4) LOWRANK_ROW_NORMS_KERNEL_OF(X, int8)                                \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q8_0) LOWRANK_ROW_NORMS_KERNEL_OF(X, q4_0)                               \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q4_1) LOWRANK_ROW_NORMS_KERNEL_OF(X, q5_0)                               \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q5_1) LOWRANK_ROW_NORMS_KERNEL_OF(X, iq4_nl)                             \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q2_k) LOWRANK_ROW_NORMS_KERNEL_OF(X, q3_k)                               \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q4_k) LOWRANK_ROW_NORMS_KERNEL_OF(X, q5_k)                               \
  LOWRANK_ROW_NORMS_KERNEL_OF(X, q6_k) LOWRANK_ROW_NORMS_KERNEL_OF(X, iq4_xs)                             \
  X(gram, GramArgs) X(second_moment, SecondMomentArgs) X(add_second_moment, SecondMomentArgs)
// clang-format on
LOWRANK_KERNEL_CONSTANTS(LOWRANK_ROW_NORMS_KERNELS)

}  // namespace lowrank::cuda
