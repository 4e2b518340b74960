#include "gemm.h"

#include "device.cuh"
#include "gemm_tile.cuh"

namespace lowrank::cuda {

#define LOWRANK_GEMM(name, blocks, ...) \
  LOWRANK_KERNEL(name, GemmArgs, (Tile<__VA_ARGS__>::kThreads), blocks) { multiply<Tile<__VA_ARGS__>>(args); }
LOWRANK_GEMM(gemm_nt_128x128, 2, false, false, 128, 128, 32, 2, 4, 3)
LOWRANK_GEMM(gemm_nt_64x64, 2, false, false, 64, 64, 64, 2, 2, 3)
LOWRANK_GEMM(gemm_nt_64x128, 4, false, false, 64, 128, 32, 2, 2, 3)
LOWRANK_GEMM(gemm_nt_64x32, 3, false, false, 64, 32, 64, 4, 1, 3)
LOWRANK_GEMM(gemm_nt_64x16, 3, false, false, 64, 16, 64, 4, 1, 3)
LOWRANK_GEMM(gemm_nn_128x128, 2, false, true, 128, 128, 32, 2, 4, 3)
LOWRANK_GEMM(gemm_nn_64x64, 2, false, true, 64, 64, 64, 2, 2, 3)
LOWRANK_GEMM(gemm_nn_64x128, 4, false, true, 64, 128, 32, 2, 2, 3)
LOWRANK_GEMM(gemm_nn_64x32, 3, false, true, 64, 32, 64, 4, 1, 3)
LOWRANK_GEMM(gemm_nn_64x16, 3, false, true, 64, 16, 64, 4, 1, 3)
LOWRANK_GEMM(gemm_tn_128x128, 2, true, true, 128, 128, 32, 2, 4, 3)
LOWRANK_GEMM(gemm_tn_64x64, 2, true, true, 64, 64, 64, 2, 2, 3)
LOWRANK_GEMM(gemm_tn_32x128, 2, true, true, 32, 128, 32, 1, 4, 4)
LOWRANK_GEMM(gemm_tn_16x128, 2, true, true, 16, 128, 32, 1, 4, 4)
LOWRANK_GEMM(gemm_tn_128x32, 2, true, true, 128, 32, 32, 4, 1, 4)
LOWRANK_GEMM(gemm_tn_128x16, 2, true, true, 128, 16, 32, 4, 1, 4)

LOWRANK_KERNEL(add_parts, AddPartsArgs, 256, 4) {
  const int64_t index = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (index >= args.m * args.n) return;
  const int64_t row = index / args.n, column = index % args.n;
  float sum = args.part[index];
  for (int64_t i = 1; i < args.parts; ++i) sum += args.part[i * args.part_stride + index];
  sum *= args.scale;
  if (args.bias != nullptr) sum += args.bias[column];
  if (args.residual != nullptr) sum += args.residual[row * args.residual_ld + column];
  const int64_t at = row * args.y_ld + column;
  if (args.y_is_bf16 != 0) {
    static_cast<__nv_bfloat16*>(args.y)[at] = __float2bfloat16_rn(sum);
  } else {
    static_cast<float*>(args.y)[at] = sum;
  }
}

}  // namespace lowrank::cuda
