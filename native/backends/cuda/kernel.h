// How kernels are declared for both sides. An area's .cu has structs of arguments for both, kernels, which
// LOWRANK_KERNEL in device.cuh defines, and their launches. Where several areas share them, structs are in a header.
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

/// 1 where the kernels of an area's .cu are compiled, by CUDA's compilers or for the emulator; 0 where its launches
/// are, by the host's. Its structs of arguments are there in both.
#if defined(__CUDACC__) || defined(LOWRANK_EMULATE)
#define LOWRANK_ON_DEVICE 1
#else
#define LOWRANK_ON_DEVICE 0
#endif
