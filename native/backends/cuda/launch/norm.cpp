#include "backends/cuda/launch/norm.h"

#include "backends/cuda/kernels/norm.h"
#include "backends/cuda/launch/cells.h"

namespace lowrank::cuda {
namespace {

/// Columns up to which a warp takes a row.
constexpr int64_t kMostOfWarp = 1024;

Grid grid_of(int64_t groups, bool whole_block) {
  constexpr int64_t kWarps = kNormThreads / 32;
  return {whole_block ? groups : (groups + kWarps - 1) / kWarps};
}

}  // namespace

void run(Launcher& launcher, const RmsNorm& k, Ptr<std::byte>) {
  const bool whole_block = k.cols > kMostOfWarp;
  launcher.launch(
      rms_norm, grid_of(k.rows * k.groups, whole_block), kNormThreads,
      {k.rows, k.groups, k.cols, whole_block, k.eps, grouped_cells(k.x, k.groups, k.cols), device_pointer(k.w),
       grouped_cells(k.y, k.groups, k.cols), device_pointer(k.rstd)});
}

void run(Launcher& launcher, const RmsNormBackward& k, Ptr<std::byte>) {
  const bool whole_block = k.cols > kMostOfWarp, adds = k.dx.data.address() != k.dy.data.address();
  launcher.launch(rms_norm_backward, grid_of(k.rows * k.groups, whole_block), kNormThreads,
                  {k.rows, k.groups, k.cols, whole_block, adds, grouped_cells(k.dy, k.groups, k.cols),
                   grouped_cells(k.x, k.groups, k.cols), device_pointer(k.w), device_pointer(k.rstd),
                   grouped_cells(k.dx, k.groups, k.cols)});
}

}  // namespace lowrank::cuda
