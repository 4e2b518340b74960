#include "backends/cuda/launch/norm.h"

#include "backends/cuda/kernels/norm.h"

namespace lowrank::cuda {
namespace {

constexpr int kThreads = 256;

}  // namespace

void run(Launcher& launcher, const RmsNorm& k, Ptr<std::byte>) {
  const RmsNormArgs args{k.rows, k.cols, device_pointer(k.x.data), k.x.ld, device_pointer(k.w), k.eps,
                         device_pointer(k.y.data), k.y.ld, device_pointer(k.rstd)};
  const auto& kernel = k.y.dtype == DType::f32   ? rms_norm_f32_f32
                       : k.x.dtype == DType::f32 ? rms_norm_f32_bf16
                                                 : rms_norm_bf16_bf16;
  launcher.launch(kernel, {k.rows}, kThreads, args);
}

}  // namespace lowrank::cuda
