// How kernels launch, found by their structs: each is defined beside its CUDA kernels, in the .cu of its area.
#pragma once

#include "backends/cuda/launch_cells.h"
#include "backends/cuda/launcher.h"
#include "device/fields.h"
#include "kernels/kernels.h"

namespace lowrank::cuda {

// Declared for all kernels of the list. Hidden, since a shared library would link without one that is missing.
#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
#define LOWRANK_RUN(K) void run(Launcher& launcher, const K& k, Ptr<std::byte> room);
LOWRANK_KERNELS(LOWRANK_RUN)
#undef LOWRANK_RUN
/// Bytes of room.
#define LOWRANK_WORKSPACE(K) int64_t workspace(const Card& card, const K& k);
LOWRANK_KERNELS_WITH_ROOM(LOWRANK_WORKSPACE)
#undef LOWRANK_WORKSPACE
#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

/// A kernel by its name.
template <class Args>
constexpr KernelOf<Args> kernel_of(const char* name) {
  static_assert(bytes_of_fields<Args>() == sizeof(Args), "launches are compared by the bytes of their arguments");
  return {name};
}

/// Launches over tiles of a matrix, of which `args` has the first member.
template <class Args>
void launch_tiles(Launcher& launcher, const KernelOf<Args>& kernel, const Args& args) {
  launcher.launch(kernel, grid_of(args.tiles), kTileThreads, args);
}

}  // namespace lowrank::cuda
