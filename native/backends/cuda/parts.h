// Launches whose threads have an element each, and sums of parts.
#pragma once

#include "backends/cuda/gemm.h"
#include "backends/cuda/launcher.h"
#include "core/math.h"

namespace lowrank::cuda {

inline constexpr KernelOf<AddPartsArgs> add_parts{"add_parts"};

/// Blocks of 256 threads, an element each.
template <class Args>
void launch_elements(Launcher& launcher, const KernelOf<Args>& kernel, int64_t count, const Args& args) {
  launcher.launch(kernel, {ceil_div(count, 256)}, 256, args);
}

/// to[i] = sum over parts of from[part, i], in their order (+ residual[i]).
inline void sum_of_parts(Launcher& launcher, int64_t count, int64_t parts, Ptr<float> from, Ptr<float> to,
                         Ptr<float> residual = {}) {
  AddPartsArgs args{};
  args.m = 1;
  args.n = count;
  args.parts = parts;
  args.part = device_pointer(from);
  args.part_stride = count;
  args.y = device_pointer(to);
  args.residual = device_pointer(residual);
  args.scale = 1;
  if (parts > 0) launch_elements(launcher, add_parts, count, args);
}

/// to[i] += sum over parts of from[part, i], in their order.
inline void add_sums(Launcher& launcher, int64_t count, int64_t parts, Ptr<float> from, Ptr<float> to) {
  sum_of_parts(launcher, count, parts, from, to, to);
}

}  // namespace lowrank::cuda
