// NVIDIA's driver, libcuda, opened at run time: one binary serves machines with and without it. The prototypes are
// written out here, so that no CUDA header is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/card.h"

namespace lowrank::cuda {

// The driver's types, as far as they are used.
using CUresult = int;
using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

inline constexpr CUresult CUDA_SUCCESS = 0;
inline constexpr CUresult CUDA_ERROR_INVALID_VALUE = 1;
inline constexpr CUresult CUDA_ERROR_OUT_OF_MEMORY = 2;
inline constexpr CUresult CUDA_ERROR_NOT_INITIALIZED = 3;
inline constexpr CUresult CUDA_ERROR_NO_DEVICE = 100;
inline constexpr CUresult CUDA_ERROR_INVALID_DEVICE = 101;
inline constexpr CUresult CUDA_ERROR_INVALID_IMAGE = 200;
inline constexpr CUresult CUDA_ERROR_INVALID_CONTEXT = 201;
inline constexpr CUresult CUDA_ERROR_NO_BINARY_FOR_GPU = 209;
inline constexpr CUresult CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222;
inline constexpr CUresult CUDA_ERROR_INVALID_HANDLE = 400;
inline constexpr CUresult CUDA_ERROR_NOT_FOUND = 500;
inline constexpr CUresult CUDA_ERROR_NOT_READY = 600;
inline constexpr CUresult CUDA_ERROR_ILLEGAL_ADDRESS = 700;
inline constexpr CUresult CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701;
inline constexpr CUresult CUDA_ERROR_LAUNCH_FAILED = 719;
inline constexpr CUresult CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803;
inline constexpr CUresult CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900;
inline constexpr CUresult CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901;

inline constexpr int CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16;
inline constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75;
inline constexpr int CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76;
inline constexpr int CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97;
inline constexpr int CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;
inline constexpr unsigned CU_STREAM_NON_BLOCKING = 1;
inline constexpr unsigned CU_EVENT_DISABLE_TIMING = 2;
inline constexpr unsigned CU_MEMHOSTALLOC_PORTABLE = 1;
inline constexpr int CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1;

/// X(name, parameters) for every function that is used. All of them are in driver R525, the oldest that is taken.
#define LOWRANK_DRIVER_CALLS(X)                                                                                  \
  X(cuInit, (unsigned flags))                                                                                    \
  X(cuDriverGetVersion, (int* version))                                                                          \
  X(cuGetErrorName, (CUresult error, const char** text))                                                         \
  X(cuGetErrorString, (CUresult error, const char** text))                                                       \
  X(cuDeviceGetCount, (int* count))                                                                              \
  X(cuDeviceGet, (CUdevice * device, int ordinal))                                                               \
  X(cuDeviceGetName, (char* name, int length, CUdevice device))                                                  \
  X(cuDeviceGetAttribute, (int* value, int attribute, CUdevice device))                                          \
  X(cuDeviceGetPCIBusId, (char* id, int length, CUdevice device))                                                \
  X(cuDeviceTotalMem_v2, (size_t* bytes, CUdevice device))                                                       \
  X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                            \
  X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                             \
  X(cuCtxSetCurrent, (CUcontext context))                                                                        \
  X(cuMemGetInfo_v2, (size_t* free, size_t* total))                                                              \
  X(cuMemAlloc_v2, (CUdeviceptr * at, size_t bytes))                                                             \
  X(cuMemFree_v2, (CUdeviceptr at))                                                                              \
  X(cuMemHostAlloc, (void** at, size_t bytes, unsigned flags))                                                   \
  X(cuMemFreeHost, (void* at))                                                                                   \
  X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, size_t bytes, CUstream stream))                     \
  X(cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, size_t bytes, CUstream stream))                           \
  X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                     \
  X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))                       \
  X(cuMemsetD2D8Async,                                                                                           \
    (CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height, CUstream stream))           \
  X(cuStreamCreate, (CUstream * stream, unsigned flags))                                                         \
  X(cuStreamDestroy_v2, (CUstream stream))                                                                       \
  X(cuStreamSynchronize, (CUstream stream))                                                                      \
  X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                                         \
  X(cuStreamBeginCapture_v2, (CUstream stream, int mode))                                                        \
  X(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                                      \
  X(cuGraphInstantiateWithFlags, (CUgraphExec * made, CUgraph graph, unsigned long long flags))                  \
  X(cuGraphDestroy, (CUgraph graph))                                                                             \
  X(cuGraphLaunch, (CUgraphExec graph, CUstream stream))                                                         \
  X(cuGraphExecDestroy, (CUgraphExec graph))                                                                     \
  X(cuEventCreate, (CUevent * event, unsigned flags))                                                            \
  X(cuEventDestroy_v2, (CUevent event))                                                                          \
  X(cuEventRecord, (CUevent event, CUstream stream))                                                             \
  X(cuEventQuery, (CUevent event))                                                                               \
  X(cuEventSynchronize, (CUevent event))                                                                         \
  X(cuModuleLoadData, (CUmodule * module, const void* image))                                                    \
  X(cuModuleUnload, (CUmodule module))                                                                           \
  X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))                             \
  X(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                                         \
  X(cuLaunchKernel,                                                                                              \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
     unsigned block_z, unsigned shared, CUstream stream, void** parameters, void** extra))

/// The functions of the driver, by their names.
struct Driver {
#define LOWRANK_DRIVER_MEMBER(name, parameters) CUresult(*name) parameters = nullptr;
  LOWRANK_DRIVER_CALLS(LOWRANK_DRIVER_MEMBER)
#undef LOWRANK_DRIVER_MEMBER

  /// Such as "CUDA_ERROR_NO_DEVICE (100)".
  std::string name_of(CUresult error) const;
};

/// The oldest driver for a card, by the CUDA version that it supports, as cuDriverGetVersion counts: 12000 is 12.0.
struct DriverFloor {
  int version;
  const char* release;
};
constexpr DriverFloor driver_floor(int sm) {
  return sm >= 100 ? DriverFloor{12080, "R570"} : DriverFloor{12000, "R525"};
}
/// The oldest compute capability that the kernels run on, ten times.
inline constexpr int kOldestSm = 80;

/// A GPU that the driver shows.
struct FoundCard {
  int number = 0;  // as in cuda:N
  std::string name;
  Card card;
  std::string bus;     // address on the machine's bus, which processes know it by whatever its number
  int64_t bytes = 0;   // of its memory
  std::string reason;  // why it cannot be used; empty where it can
};

/// CUDA on this machine.
struct Probe {
  std::shared_ptr<const Driver> driver;  // null where none can be used
  int version = 0;                       // of CUDA that the driver supports, such as 12080
  std::vector<FoundCard> cards;
  std::vector<std::string> reasons;  // why there is no card to use, one thing that was tried a line

  /// The first card that can be used; null where there is none.
  const FoundCard* usable() const;
};

/// Looks for the driver and its cards. LOWRANK_LIBCUDA names another library, and LOWRANK_DISABLE_CUDA=1 looks for
/// nothing. Never throws.
Probe probe() noexcept;

/// A version as people write it: 12.8.
std::string version_text(int version);

}  // namespace lowrank::cuda
