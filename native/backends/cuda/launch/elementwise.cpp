#include "backends/cuda/launch/elementwise.h"

#include <cmath>

#include "backends/cuda/kernels/elementwise.h"
#include "backends/cuda/launch/cells.h"
#include "core/random.h"

namespace lowrank::cuda {
namespace {

constexpr int kFlatThreads = 256;

/// Launches over tiles of a matrix, of which `args` has the first member.
template <class Args>
void launch(Launcher& launcher, const KernelOf<Args>& kernel, const Args& args) {
  launcher.launch(kernel, grid_of(args.tiles), kTileThreads, args);
}

/// An element is kept when its draw is at least this.
uint32_t drop_threshold(float p) {
  const double threshold = static_cast<double>(p) * 4294967296.0;
  return threshold >= 4294967295.0 ? 4294967295u : static_cast<uint32_t>(threshold);
}

/// Start of the draws of a key.
uint64_t hash_base(uint64_t key) { return mix(key + 0x9e3779b97f4a7c15u); }

template <class Kernel>
DropoutArgs dropout_args(const Kernel& k, const Matrix& to) {
  return {tiles_of(k.rows, k.cols), cells_of(k.x),       hash_base(k.key),
          drop_threshold(k.p),      1.0f / (1.0f - k.p), cells_of(to)};
}

}  // namespace

void run(Launcher& launcher, const Rope& k, Ptr<std::byte>) {
  const int32_t half = k.turned / 2;
  launch(launcher, rope,
         {tiles_of(k.rows, int64_t{k.heads} * half), half, k.head_dim, cells_of(k.x), device_pointer(k.positions),
          device_pointer(k.cos), device_pointer(k.sin), k.inverse});
}

void run(Launcher& launcher, const GatherRows& k, Ptr<std::byte>) {
  launch(launcher, gather_rows, {tiles_of(k.count, k.cols), cells_of(k.x), device_pointer(k.rows), cells_of(k.out)});
}

void run(Launcher& launcher, const ScatterAddRows& k, Ptr<std::byte>) {
  launch(launcher, scatter_add_rows,
         {tiles_of(k.count, k.cols), cells_of(k.x), device_pointer(k.rows), cells_of(k.out)});
}

void run(Launcher& launcher, const Zero& k, Ptr<std::byte>) {
  if (k.bytes > 0) launcher.zero(k.to, k.bytes);
}

void run(Launcher& launcher, const Cast& k, Ptr<std::byte>) {
  launcher.launch(cast_bf16, blocks_of((k.count + 7) / 8, kFlatThreads), kFlatThreads,
                  {k.count, device_pointer(k.from), device_pointer(k.to)});
}

void run(Launcher& launcher, const AddConstant& k, Ptr<std::byte>) {
  launcher.launch(add_constant, blocks_of(k.count, kFlatThreads), kFlatThreads,
                  {k.count, device_pointer(k.to), k.value});
}

void run(Launcher& launcher, const Dropout& k, Ptr<std::byte>) { launch(launcher, dropout, dropout_args(k, k.out)); }

void run(Launcher& launcher, const DropoutBackward& k, Ptr<std::byte>) {
  launch(launcher, dropout_backward, dropout_args(k, k.y));
}

void run(Launcher& launcher, const AddNoise& k, Ptr<std::byte>) {
  for (size_t s = 0; s + 1 < k.host_seqlens.size(); ++s) {
    const int64_t first = k.host_seqlens[s], count = k.host_seqlens[s + 1] - first;
    if (count == 0) continue;
    const double elements = static_cast<double>(count) * static_cast<double>(k.cols);
    launch(launcher, add_noise,
           {tiles_of(count, k.cols), cells_of(k.y.rows(first)), first, hash_base(k.key),
            static_cast<float>(k.alpha / std::sqrt(elements))});
  }
}

void run(Launcher& launcher, const ScaleColumns& k, Ptr<std::byte>) {
  launch(launcher, scale_columns,
         {tiles_of(k.rows, k.cols), cells_of(k.x), device_pointer(k.gain), device_pointer(k.bias), cells_of(k.addend),
          cells_of(k.y)});
}

}  // namespace lowrank::cuda
