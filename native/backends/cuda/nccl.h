// NVIDIA's library of communication between GPUs, NCCL, where a machine has it: opened at run time, never shipped. Its
// types and constants are written out here, so that no header of it is needed.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lowrank::cuda {

/// Names a group of ranks that connect; made by one of them and passed to the others.
struct NcclId {
  std::array<char, 128> bytes;
};

/// A communicator of the library.
using NcclComm = struct NcclCommunicator*;

inline constexpr int kNcclSuccess = 0;
inline constexpr int kNcclSystemError = 2;
inline constexpr int kNcclInvalidArgument = 4;
inline constexpr int kNcclInvalidUsage = 5;
inline constexpr int kNcclRemoteError = 6;
inline constexpr int kNcclInProgress = 7;
inline constexpr int kNcclFloat = 7;

/// X(name, Result, parameters) for every function that is used. All of them are in NCCL 2.7. Streams are the driver's.
// clang-format off
#define LOWRANK_NCCL_CALLS(X)                                                                                        \
  X(ncclGetVersion, int, (int* version))                                                                             \
  X(ncclGetErrorString, const char*, (int error))                                                                    \
  X(ncclGetUniqueId, int, (lowrank::cuda::NcclId* id))                                                               \
  X(ncclCommInitRank, int, (lowrank::cuda::NcclComm* comm, int ranks, lowrank::cuda::NcclId id, int rank))           \
  X(ncclCommDestroy, int, (lowrank::cuda::NcclComm comm))                                                            \
  X(ncclCommAbort, int, (lowrank::cuda::NcclComm comm))                                                              \
  X(ncclCommGetAsyncError, int, (lowrank::cuda::NcclComm comm, int* error))                                          \
  X(ncclGroupStart, int, ())                                                                                         \
  X(ncclGroupEnd, int, ())                                                                                           \
  X(ncclSend, int, (const void* from, size_t count, int type, int peer, lowrank::cuda::NcclComm comm, void* stream)) \
  X(ncclRecv, int, (void* to, size_t count, int type, int peer, lowrank::cuda::NcclComm comm, void* stream))         \
  X(ncclAllGather, int, (const void* own, void* all, size_t count, int type, lowrank::cuda::NcclComm comm, void* stream))
// clang-format on

/// The library, which stays loaded.
class Nccl {
 public:
  struct Calls {
#define LOWRANK_NCCL_MEMBER(call, Result, parameters) Result(*call) parameters = nullptr;
    LOWRANK_NCCL_CALLS(LOWRANK_NCCL_MEMBER)
#undef LOWRANK_NCCL_MEMBER
  };

  /// Looks for the library where LOWRANK_LIBNCCL says, else among the system's libraries and in the Python environment
  /// that is active (VIRTUAL_ENV, CONDA_PREFIX), but nowhere where LOWRANK_NCCL is off, and with a driver that
  /// LOWRANK_LIBCUDA names only where LOWRANK_LIBNCCL says.
  /// @param reason why there is none, where null is returned
  static std::shared_ptr<const Nccl> open(std::string& reason);

  const Calls& calls() const { return calls_; }
  /// Path or name by which it was found.
  const std::string& path() const { return path_; }
  /// Such as "2.27.3".
  std::string version() const;
  NcclId new_id() const;
  /// Throws Error("DEVICE") where a call failed.
  void check(int error, const char* call) const;

 private:
  Nccl(const Calls& calls, std::string path) : calls_(calls), path_(std::move(path)) {}
  const Calls calls_;
  const std::string path_;
};

/// Paths and names by which the library may be found, in the order in which they are tried.
std::vector<std::string> nccl_candidates();

}  // namespace lowrank::cuda
