#include "norm.h"

#include "device.cuh"

namespace lowrank::cuda {
namespace {

/// A block of 256 threads a row.
template <class X, class Y>
LOWRANK_DEVICE void rms_norm(const RmsNormArgs& args) {
  const int64_t row = blockIdx.x;
  const X* x = static_cast<const X*>(args.x) + row * args.x_ld;
  Y* y = static_cast<Y*>(args.y) + row * args.y_ld;
  float squares = 0;
  for (int64_t col = threadIdx.x; col < args.cols; col += blockDim.x) {
    const float v = to_float(x[col]);
    squares += v * v;
  }
  const float rstd = 1.0f / sqrtf(block_sum(squares) / static_cast<float>(args.cols) + args.eps);
  for (int64_t col = threadIdx.x; col < args.cols; col += blockDim.x)
    y[col] = from_float<Y>(to_float(x[col]) * rstd * args.w[col]);
  if (threadIdx.x == 0) args.rstd[row] = rstd;
}

}  // namespace

LOWRANK_KERNEL(rms_norm_f32_f32, RmsNormArgs, 256, 4) { rms_norm<float, float>(args); }
LOWRANK_KERNEL(rms_norm_f32_bf16, RmsNormArgs, 256, 4) { rms_norm<float, __nv_bfloat16>(args); }
LOWRANK_KERNEL(rms_norm_bf16_bf16, RmsNormArgs, 256, 4) { rms_norm<__nv_bfloat16, __nv_bfloat16>(args); }

}  // namespace lowrank::cuda
