// Finds accesses of threads that nothing orders, and such outside of what is allocated. Kernels compiled a second time
// with -fsanitize=thread call it at every access: by functions that the compiler names, which are defined here in place
// of the sanitizer's own library. Order comes from barriers and, within a warp, from __syncwarp; blocks have none.
#pragma once

#include <cstdint>
#include <string>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/emulate/runtime.h"
#include "backends/cuda/emulate/shared_memory.h"

namespace lowrank::cuda::emulate {

/// Who runs.
struct Running {
  unsigned thread, warp;
  unsigned syncs;  // of the warp
  uint3 block;
};
/// False while it is not a kernel's own code.
bool running(Running& who);

namespace races {

void begin_launch(const SharedMemory& shared, const DeviceMemory* global);
void begin_block();
void pass_barrier();
/// The first fault, or nothing.
std::string end_launch();

void access(const void* at, int64_t bytes, bool write, const void* code);
/// Between the two nobody may touch the bytes.
void copy_begins(const void* shared, int64_t bytes);
void copy_ends(const void* shared, int64_t bytes);

}  // namespace races
}  // namespace lowrank::cuda::emulate
