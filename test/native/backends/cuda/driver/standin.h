// A driver without a GPU: a library with the functions of libcuda that are used, loaded through LOWRANK_LIBCUDA. It
// runs kernels that are compiled for the host, or interprets the PTX that it is given, and is stricter than a real
// driver:
//
// - device memory is inaccessible outside of copies and kernels, fresh memory is NaN, and what was freed is never
// handed
//   out again;
// - work waits until something synchronizes, and streams run in an order that only events hold back;
// - copies that run beside the host take pinned memory alone;
// - an error in a kernel stays, as on a real device;
// - an event that is asked for is reached only after many questions;
// - limits of launches are those of the oldest card.
//
// The environment, read by cuInit:
//   LOWRANK_STANDIN           ptx: interprets the PTX of the pack, which only cards newer than its cubins are given
//   LOWRANK_STANDIN_DEVICES   compute capabilities of the cards, ten times, such as 80,90; empty for none (default 80)
//   LOWRANK_STANDIN_MEMORY    bytes of each card (default 4 GiB)
//   LOWRANK_STANDIN_PINNED    bytes of pinned memory that the system gives (default 1 TiB)
//   LOWRANK_STANDIN_VERSION   what cuDriverGetVersion says (default 12090)
//   LOWRANK_STANDIN_ORDER     late (default): streams run only as far as somebody waits for them; early: all streams
//   but the
//                             first run as soon as they can; random:SEED
//   LOWRANK_STANDIN_FAIL      NAME:N[:ERROR]: the N-th call of a function fails
//   LOWRANK_STANDIN_PACK      a file to write a kernel pack to that names all kernels it knows
//   LOWRANK_STANDIN_FAULT     KERNEL:N: the N-th run of a kernel fails
//   LOWRANK_STANDIN_SKIP      KERNEL:N: the N-th run of a kernel does nothing
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace lowrank::test::standin {

/// One launch, as a kernel for the host sees it.
struct Launch {
  int64_t grid[3];
  int threads;
  int64_t shared_bytes;
  const void* args;
  uint64_t seed;  // of the order of blocks and threads; 0: the order of their numbers
};

/// A kernel that is compiled for the host.
struct Kernel {
  std::string name;
  int64_t args_bytes = 0;
  int most_threads = 0;
  /// Throws std::runtime_error where the kernel does what CUDA does not define.
  std::function<void(const Launch& launch)> run;
};

/// Hands every kernel to `add`: those of the product, as the emulator runs them, and those below.
void each_kernel(const std::function<void(const Kernel& kernel)>& add);

// Kernels for tests of the host's side.
struct AddArgs {
  float* to;
  int64_t count;
  float value;
  int32_t unused = 0;  // no padding: arguments are compared by their bytes
};
struct CopyArgs {
  float* to;
  const float* from;
  int64_t count;
};

}  // namespace lowrank::test::standin
