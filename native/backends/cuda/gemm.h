// Kernels of matrix products: y[m, n] = scale * sum over segments of x w (+ bias) (+ residual), sums in fp32. By
// layout: nt, x [m, k] and w [n, k]; nn, x [m, k] and w [k, n]; tn, x [k, m] and w [k, n].
#pragma once

#include "kernel.h"
#include "pair.h"
#include "device_weight.h"

namespace lowrank::cuda {

inline constexpr int kMostSegments = 16;

/// fp32 or bf16, row-major.
struct GemmOperand {
  const void* data;
  int64_t ld;
  int32_t is_f32;
  int32_t wide;  // bf16 rows begin at multiples of 16 bytes, fp32 too
};
struct GemmSegment {
  GemmOperand x, w;
  int64_t k;
};
struct GemmArgs {
  int64_t m, n;
  void* y;
  int64_t y_ld;
  const float* bias;      // [n], or null
  const float* residual;  // [m, n] or null; may be y
  int64_t residual_ld;
  float scale;
  int32_t y_is_bf16;
  int32_t wide;  // y, bias and residual allow accesses of four elements
  int32_t segments;
  // The steps of the reduction, over all segments, are cut into parts of `part_steps`: part blockIdx.z goes to
  // y + blockIdx.z * part_stride, fp32.
  int64_t part_steps, part_stride;
  GemmSegment segment[kMostSegments];
};

/// A product whose first segment is x [m, k] with codes, as `rest` has its others. k is that of w.
struct GemmCodesArgs {
  DeviceWeight w;
  GemmOperand x;
  int64_t rounds;  // factors to bf16
  GemmArgs rest;
};

/// y = scale * (parts in their order) (+ bias) (+ residual).
struct AddPartsArgs {
  int64_t m, n, parts;
  const float* part;
  int64_t part_stride;
  void* y;
  int64_t y_ld;
  const float *bias, *residual;
  int64_t residual_ld;
  float scale;
  int32_t y_is_bf16;
};

/// Two products of few ranks, b a and b2 a2 [rows, cols]; see Pair of kernels/factors.h.
struct PairArgs : PairOperands {
  const float* row_gains;
  float scale;          // add_pair
  int32_t has_base;     // add_pair: out holds it
  float *out, *second;  // split_pair: the gradient, and that of the second product
};

// Tiles of y by rows and columns.
#define LOWRANK_GEMM_KERNELS(X) \
  X(gemm_nt_128x128, GemmArgs)  \
  X(gemm_nt_64x64, GemmArgs)    \
  X(gemm_nt_64x128, GemmArgs)   \
  X(gemm_nt_64x32, GemmArgs)    \
  X(gemm_nt_64x16, GemmArgs)    \
  X(gemm_nn_128x128, GemmArgs)  \
  X(gemm_nn_64x64, GemmArgs)    \
  X(gemm_nn_64x128, GemmArgs)   \
  X(gemm_nn_64x32, GemmArgs)    \
  X(gemm_nn_64x16, GemmArgs)    \
  X(gemm_tn_128x128, GemmArgs)  \
  X(gemm_tn_64x64, GemmArgs)    \
  X(gemm_tn_32x128, GemmArgs)   \
  X(gemm_tn_16x128, GemmArgs)   \
  X(gemm_tn_128x32, GemmArgs)   \
  X(gemm_tn_128x16, GemmArgs)   \
  X(add_parts, AddPartsArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_GEMM_KERNELS)

#define LOWRANK_GEMM_F32_KERNELS(X) \
  X(gemm_nt_f32, GemmArgs)          \
  X(gemm_nn_f32, GemmArgs)          \
  X(gemm_tn_f32, GemmArgs)          \
  X(add_pair, PairArgs)             \
  X(split_pair, PairArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_GEMM_F32_KERNELS)

#define LOWRANK_GEMM_FOUR_BIT_KERNELS(X) \
  X(gemm_nf4_16, GemmCodesArgs)          \
  X(gemm_nf4_32, GemmCodesArgs)          \
  X(gemm_nf4_64, GemmCodesArgs)          \
  X(gemm_fp4_16, GemmCodesArgs)          \
  X(gemm_fp4_32, GemmCodesArgs)          \
  X(gemm_fp4_64, GemmCodesArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_GEMM_FOUR_BIT_KERNELS)

#define LOWRANK_GEMV_KERNELS(X) \
  X(gemv_f32, GemmCodesArgs)    \
  X(gemv_bf16, GemmCodesArgs)   \
  X(gemv_f16, GemmCodesArgs)    \
  X(gemv_nf4, GemmCodesArgs)    \
  X(gemv_fp4, GemmCodesArgs)    \
  X(gemv_int8, GemmCodesArgs)   \
  X(gemv_q8_0, GemmCodesArgs)   \
  X(gemv_q4_0, GemmCodesArgs)   \
  X(gemv_q4_1, GemmCodesArgs)   \
  X(gemv_q5_0, GemmCodesArgs)   \
  X(gemv_q5_1, GemmCodesArgs)   \
  X(gemv_iq4_nl, GemmCodesArgs) \
  X(gemv_q2_k, GemmCodesArgs)   \
  X(gemv_q3_k, GemmCodesArgs)   \
  X(gemv_q4_k, GemmCodesArgs)   \
  X(gemv_q5_k, GemmCodesArgs)   \
  X(gemv_q6_k, GemmCodesArgs)   \
  X(gemv_iq4_xs, GemmCodesArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_GEMV_KERNELS)

}  // namespace lowrank::cuda
