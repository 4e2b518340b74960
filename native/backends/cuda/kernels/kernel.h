// How kernels are declared for both sides: an area's header has the structs of arguments and a list of its kernels,
// which names each with its struct. The host makes of that list one constant a kernel; LOWRANK_KERNEL in device.cuh
// defines the kernel itself.
#pragma once

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#else
#include <stdint.h>
#endif

namespace lowrank::cuda {

/// A kernel by the name that its code has, and the type of its one argument.
template <class Args>
struct KernelOf {
  const char* name;
};

}  // namespace lowrank::cuda

#if defined(__CUDACC__) || defined(LOWRANK_EMULATE)
#define LOWRANK_KERNEL_CONSTANTS(list)
#else
#define LOWRANK_KERNEL_CONSTANT(kernel, Args) inline constexpr KernelOf<Args> kernel{#kernel};
#define LOWRANK_KERNEL_CONSTANTS(list) list(LOWRANK_KERNEL_CONSTANT)
#endif
