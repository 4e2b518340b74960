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

#define LOWRANK_FAULT_KERNELS(X)              \
  X(emulator_product, ProductArgs)            \
  X(emulator_product_transposed, ProductArgs) \
  X(emulator_product_swapped, ProductArgs)    \
  X(emulator_fault, FaultArgs)                \
  X(emulator_copy, CopyArgs)                  \
  X(emulator_lanes, FaultArgs)
LOWRANK_KERNEL_CONSTANTS(LOWRANK_FAULT_KERNELS)

}  // namespace lowrank::cuda
