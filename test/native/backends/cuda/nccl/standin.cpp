// An NCCL for machines without GPUs: ranks are processes or threads that exchange through a file in shared memory,
// named by the id. Work waits in the order of the stand-in driver's streams, and moves nothing until its peers have
// made the same call. It refuses what the library would refuse.
//
// The environment:
//   LOWRANK_STANDIN_NCCL   CALL:N[:RANK]: the N-th call of a function fails, on all ranks or on one
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "backends/cuda/nccl.h"

using namespace lowrank::cuda;

namespace {

constexpr size_t kChunk = 4096;
constexpr int kMostRanks = 8;

/// Bytes on their way from one rank to another.
struct Mailbox {
  std::atomic<uint64_t> sent, taken;
  uint64_t bytes;
  std::byte data[kChunk];
};
struct Shared {
  std::atomic<int> joined, aborted;
  Mailbox boxes[kMostRanks][kMostRanks];
};

/// One direction between two ranks. A call of the library is some of them, which go on side by side.
struct Transfer {
  int peer;
  bool sends;
  std::byte* at;
  size_t bytes;
  size_t done = 0;
};

}  // namespace

namespace lowrank::cuda {
struct NcclCommunicator {
  Shared* shared;
  int rank, ranks;
  std::atomic<bool> aborted = false;
  std::atomic<int> queued = 0;
};
}  // namespace lowrank::cuda

namespace {

struct Call {
  NcclComm comm;
  std::vector<Transfer> transfers;
};
struct Group {
  int depth = 0;
  NcclComm comm = nullptr;
  void* stream = nullptr;
  std::vector<Transfer> transfers;
};
thread_local Group group;

/// True if the environment asks a call to fail.
bool fails(const char* call, int rank) {
  static std::mutex one;
  static std::map<std::string, int> calls;  // by what is asked
  const char* const asked = std::getenv("LOWRANK_STANDIN_NCCL");
  if (asked == nullptr) return false;
  const std::string text = asked;
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  if (text.substr(0, first) != call) return false;
  if (second != std::string::npos && std::atoi(text.c_str() + second + 1) != rank) return false;
  const std::lock_guard lock(one);
  return ++calls[text] == std::atoi(text.c_str() + first + 1);
}

/// Moves what can be moved; true once nothing is left.
bool go_on(const NcclCommunicator& comm, Transfer& transfer) {
  while (transfer.done < transfer.bytes) {
    Mailbox& box =
        transfer.sends ? comm.shared->boxes[comm.rank][transfer.peer] : comm.shared->boxes[transfer.peer][comm.rank];
    const bool is_full = box.sent != box.taken;
    if (transfer.sends == is_full) return false;
    if (transfer.sends) {
      box.bytes = std::min(kChunk, transfer.bytes - transfer.done);
      std::memcpy(box.data, transfer.at + transfer.done, box.bytes);
      transfer.done += box.bytes;
      ++box.sent;
    } else {
      if (box.bytes > transfer.bytes - transfer.done) {
        std::fprintf(stderr, "stand-in NCCL: rank %d sends more than rank %d receives\n", transfer.peer, comm.rank);
        std::abort();
      }
      std::memcpy(transfer.at + transfer.done, box.data, box.bytes);
      transfer.done += box.bytes;
      ++box.taken;
    }
  }
  return true;
}

int go_on(void* data) {
  auto& call = *static_cast<Call*>(data);
  bool done = true;
  if (!call.comm->aborted)
    for (Transfer& transfer : call.transfers) done = go_on(*call.comm, transfer) && done;
  if (!done) return 0;
  --call.comm->queued;
  delete &call;
  return 1;
}

int queue(NcclComm comm, std::vector<Transfer> transfers, void* stream) {
  void* const driver = dlopen(std::getenv("LOWRANK_LIBCUDA"), RTLD_NOW);
  if (driver == nullptr) return kNcclInvalidUsage;
  const auto enqueue =
      reinterpret_cast<int (*)(void*, int (*)(void*), void*)>(dlsym(driver, "lowrank_standin_goes_on"));
  if (enqueue == nullptr) return kNcclInvalidUsage;
  ++comm->queued;
  return enqueue(stream, go_on, new Call{comm, std::move(transfers)}) == 0 ? kNcclSuccess : 1;
}

int add(NcclComm comm, const std::vector<Transfer>& transfers, void* stream) {
  if (group.depth == 0) return queue(comm, transfers, stream);
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream)) return kNcclInvalidUsage;
  group.comm = comm;
  group.stream = stream;
  group.transfers.insert(group.transfers.end(), transfers.begin(), transfers.end());
  return kNcclSuccess;
}

bool is_valid(NcclComm comm, int type, int peer) {
  return comm != nullptr && type == kNcclFloat && peer >= 0 && peer < comm->ranks;
}
std::byte* bytes_at(const void* at) { return static_cast<std::byte*>(const_cast<void*>(at)); }

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int ncclGetVersion(int* version) {
  *version = 22705;
  return kNcclSuccess;
}
EXPORT const char* ncclGetErrorString(int error) {
  return error == kNcclSystemError ? "a planted system error" : "a planted error";
}

EXPORT int ncclGetUniqueId(NcclId* id) {
  if (fails("ncclGetUniqueId", 0)) return kNcclSystemError;
  std::random_device random;
  id->bytes.fill(0);
  std::snprintf(id->bytes.data(), id->bytes.size(), "/lowrank-nccl-%d-%08x%08x", getpid(), random(), random());
  return kNcclSuccess;
}

EXPORT int ncclCommInitRank(NcclComm* made, int ranks, NcclId id, int rank) {
  if (ranks < 1 || ranks > kMostRanks || rank < 0 || rank >= ranks) return kNcclInvalidArgument;
  const int file = shm_open(id.bytes.data(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return kNcclSystemError;
  void* const at = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at == MAP_FAILED) return kNcclSystemError;
  auto* const shared = static_cast<Shared*>(at);
  if (fails("ncclCommInitRank", rank)) {
    while (shared->joined < ranks - 1) usleep(200);  // so that none makes the file again
    shm_unlink(id.bytes.data());
    return kNcclSystemError;
  }
  ++shared->joined;
  while (shared->joined < ranks) usleep(200);
  shm_unlink(id.bytes.data());  // by the first; the others find nothing to do
  *made = new NcclCommunicator{shared, rank, ranks};
  return kNcclSuccess;
}
EXPORT int ncclCommDestroy(NcclComm comm) {
  if (comm == nullptr) return kNcclInvalidArgument;
  if (comm->queued > 0) {
    std::fprintf(stderr, "stand-in NCCL: a communicator was destroyed while work was queued\n");
    std::abort();
  }
  munmap(comm->shared, sizeof(Shared));
  delete comm;
  return kNcclSuccess;
}
/// Queued work ends without effect when the stream comes to it, so the communicator stays in memory, where leak
/// checkers find it.
EXPORT int ncclCommAbort(NcclComm comm) {
  static std::mutex one;
  static auto* const aborted = new std::vector<NcclComm>;
  if (comm == nullptr) return kNcclInvalidArgument;
  {
    const std::lock_guard lock(one);
    aborted->push_back(comm);
  }
  comm->aborted = true;
  comm->shared->aborted = 1;
  return kNcclSuccess;
}
EXPORT int ncclCommGetAsyncError(NcclComm comm, int* error) {
  if (comm == nullptr) return kNcclInvalidArgument;
  *error = comm->shared->aborted != 0 ? kNcclRemoteError : kNcclSuccess;
  return kNcclSuccess;
}

EXPORT int ncclGroupStart() {
  ++group.depth;
  return kNcclSuccess;
}
EXPORT int ncclGroupEnd() {
  if (group.depth == 0) return kNcclInvalidUsage;
  if (--group.depth > 0 || group.comm == nullptr) return kNcclSuccess;
  const Group whole = std::exchange(group, {});
  return queue(whole.comm, whole.transfers, whole.stream);
}
EXPORT int ncclSend(const void* from, size_t count, int type, int peer, NcclComm comm, void* stream) {
  if (!is_valid(comm, type, peer)) return kNcclInvalidArgument;
  if (fails("ncclSend", comm->rank)) return kNcclSystemError;
  return add(comm, {{peer, true, bytes_at(from), count * sizeof(float)}}, stream);
}
EXPORT int ncclRecv(void* to, size_t count, int type, int peer, NcclComm comm, void* stream) {
  if (!is_valid(comm, type, peer)) return kNcclInvalidArgument;
  return add(comm, {{peer, false, bytes_at(to), count * sizeof(float)}}, stream);
}
EXPORT int ncclAllGather(const void* own, void* all, size_t count, int type, NcclComm comm, void* stream) {
  if (!is_valid(comm, type, 0)) return kNcclInvalidArgument;
  if (fails("ncclAllGather", comm->rank)) return kNcclSystemError;
  const size_t bytes = count * sizeof(float);
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < comm->ranks; ++peer) {
    transfers.push_back({peer, true, bytes_at(own), bytes});
    transfers.push_back({peer, false, bytes_at(all) + static_cast<size_t>(peer) * bytes, bytes});
  }
  return add(comm, transfers, stream);
}

#define SAME(call, Result, parameters) static_assert(std::is_same_v<decltype(&call), decltype(Nccl::Calls::call)>);
LOWRANK_NCCL_CALLS(SAME)
