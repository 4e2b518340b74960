// Kernels of matrix products: y[m, n] = scale * sum over segments of x w (+ bias) (+ residual), sums in fp32. By
// layout: nt, x [m, k] and w [n, k]; nn, x [m, k] and w [k, n]; tn, x [k, m] and w [k, n].
#pragma once

#include "kernel.h"
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

}  // namespace lowrank::cuda
