// Kernels that hold the emulator to what it promises: some use an instruction, others have a fault, by its number.
#pragma once

#include "backends/cuda/kernel.h"

namespace lowrank::cuda {

struct ProductArgs {
  const void *a, *b;  // bf16: a [16, 16], b [8, 16], or [16, 8] where it is transposed
  float* d;           // [16, 8]
};
struct FaultArgs {
  int fault;
  float* out;
};
struct CopyArgs {
  const void* from;
  int bytes, fault;
  float* to;
};

enum Fault {
  kNone,
  kMissingBarrier,
  kMissingSyncwarp,
  kMissingTrailingBarrier,
  kPastShared,
  kPastGlobal,
  kBarrierInBranch,
  kTwoBarriers,
  kEarlyEnd,
  kLaneOutsideMask,
  kShuffleOutsideMask,
  kTwoShuffles,
  kBlocksWriteOneNumber,
  kMisalignedArray,
  kMisalignedAccess,
  kMissingWait,
  kLateWait,
  kTooMuchShared,
  kActiveMask,
};

#if !LOWRANK_ON_DEVICE
inline constexpr KernelOf<ProductArgs> emulator_product{"emulator_product"};
inline constexpr KernelOf<ProductArgs> emulator_product_transposed{"emulator_product_transposed"};
inline constexpr KernelOf<ProductArgs> emulator_product_swapped{"emulator_product_swapped"};
inline constexpr KernelOf<FaultArgs> emulator_fault{"emulator_fault"}, emulator_lanes{"emulator_lanes"};
inline constexpr KernelOf<CopyArgs> emulator_copy{"emulator_copy"};
#endif

}  // namespace lowrank::cuda
