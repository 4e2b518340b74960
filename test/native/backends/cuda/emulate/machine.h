// Runs emulated kernels on the calling thread. Blocks run one after another, the threads of a block as fibers that
// change at barriers and where lanes meet. All that CUDA leaves undefined and that can be seen is an error: deadlocks,
// barriers and warp operations that not all reach, misaligned copies, shared memory beyond what there is, copies that
// nobody waits for. Shared memory begins as NaN, every array at exactly the alignment that it declares, and
// asynchronous copies are done as late as they may be, or at once.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/emulate/runtime.h"
#include "backends/cuda/launcher.h"

namespace lowrank::cuda::emulate {

/// Order of threads within a block, and of blocks.
enum class Order : uint8_t { forward, reverse, random };

struct Options {
  Order order = Order::forward;
  uint64_t seed = 1;                     // of a random order
  bool late_copies = true;               // else at once
  bool tracked = false;                  // every access is held to the rules of races.h
  const DeviceMemory* memory = nullptr;  // whose bounds accesses are held to, where they are tracked
  Card card = {};
};

/// The kernel did what CUDA does not define; says what, and on which line.
struct Error : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Null where there is none.
const Entry* find_kernel(const std::string& name, bool tracked = false);
std::vector<Entry> all_kernels();
/// False in a build with another sanitizer.
bool has_tracked_kernels();
/// False in a build where the undefined-behavior sanitizer does.
bool checks_alignment();

/// Runs a kernel to its end. Throws Error.
void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes, int64_t shared_bytes,
            const Options& options);

}  // namespace lowrank::cuda::emulate
