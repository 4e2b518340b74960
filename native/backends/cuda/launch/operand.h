// Arguments of products' kernels from what their values name.
#pragma once

#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/launch/gemm_tiles.h"
#include "backends/cuda/launcher.h"
#include "backends/cuda/weight.h"
#include "device/op_kernels.h"

namespace lowrank::cuda {

/// True if every row begins at a multiple of so many bytes.
inline bool rows_aligned(const Matrix& m, int64_t bytes) {
  return (m.data.address() | static_cast<uint64_t>(m.ld * size_of(m.dtype))) % static_cast<uint64_t>(bytes) == 0;
}
inline GemmOperand operand_of(const Matrix& m) {
  return {device_pointer(m.data), m.ld, m.dtype == DType::f32, rows_aligned(m, 16)};
}
/// The rows of an fp32 or bf16 weight as they lie.
inline Matrix dense_matrix(const DeviceWeight& w) {
  const DType dtype = w.format == DeviceFormat::f32 ? DType::f32 : DType::bf16;
  return Matrix{Ptr<std::byte>(reinterpret_cast<uint64_t>(w.data)), dtype, w.ld}.rows(w.first);
}

/// Arguments of a product without segments.
inline GemmArgs output_args(int64_t m, int64_t n, const Output& to) {
  GemmArgs args{};
  args.m = m;
  args.n = n;
  args.y = device_pointer(to.y.data);
  args.y_ld = to.y.ld;
  args.bias = device_pointer(to.bias);
  args.residual = device_pointer(to.residual);
  args.residual_ld = to.residual_ld;
  args.scale = 1;
  args.y_is_bf16 = to.y.dtype == DType::bf16;
  args.wide = rows_aligned(to.y, 4 * size_of(to.y.dtype)) && to.bias.address() % 16 == 0 &&
              rows_aligned(f32_matrix(to.residual, to.residual ? to.residual_ld : 0), 16);
  return args;
}

inline void multiply_f32(Launcher& launcher, GemmLayout layout, const GemmArgs& args) {
  constexpr KernelOf<GemmArgs> kKernels[] = {gemm_nt_f32, gemm_nn_f32, gemm_tn_f32};
  launcher.launch(kKernels[static_cast<int>(layout)], {ceil_div(args.m, 64), ceil_div(args.n, 64)}, 256, args);
}

/// Adds the parts of a product, [parts][m, n] with `stride` elements from part to part, to what `whole` says.
inline void add_parts_of(Launcher& launcher, const GemmArgs& whole, const float* part, int64_t parts, int64_t stride) {
  const AddPartsArgs args{whole.m,    whole.n,        parts,       part,           stride,
                          whole.y,    whole.y_ld,     whole.bias,  whole.residual, whole.residual_ld,
                          whole.scale, whole.y_is_bf16};
  launcher.launch(add_parts, {ceil_div(whole.m * whole.n, 256)}, 256, args);
}

}  // namespace lowrank::cuda
