// What emulated kernels call; the names that CUDA has for it are in emulate.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "backends/cuda/emulate/types.h"

namespace lowrank::cuda::emulate {

/// Line of a kernel's source.
struct Place {
  const char* file;
  int line;
};
#define LOWRANK_HERE ::lowrank::cuda::emulate::Place here = {__builtin_FILE(), __builtin_LINE()}

/// Ends the launch with an error.
[[noreturn]] void fail(const char* what, Place here);

// A fiber's function never sees those of another thread.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) uint3 block_size();
__attribute__((const)) uint3 grid_size();
__attribute__((const)) unsigned lane();

/// Threads for which the value held, of all.
struct Votes {
  int yes, all;
};
Votes barrier(const char* name, bool vote, Place here);

/// Largest deposit of a lane.
inline constexpr unsigned kDeposit = 64;
using Deposits = unsigned char (*)[kDeposit];
/// Meets the other lanes of the mask, each with its bytes, and returns those of all.
/// @param finish runs once, when all are there
Deposits meet(unsigned mask, const char* name, const void* bytes, unsigned count, void (*finish)(Deposits), Place here);

void* shared_array(const void* tag, int64_t bytes, int64_t alignment);
void* dynamic_shared(Place here);

void copy_async(void* shared, const void* global, int bytes, int filled, Place here);
void commit_copies();
void wait_copies(unsigned keep);

/// Throws out addresses that an access of so many bytes may not have.
static inline void check_alignment(const void* at, unsigned bytes, const char* name, Place here) {
  if (reinterpret_cast<uintptr_t>(at) % bytes != 0) fail(name, here);
}

template <class T, class Source>
static inline T shuffle(unsigned mask, T value, const char* name, Source&& source, Place here) {
  static_assert(sizeof(T) <= kDeposit);
  const Deposits all = meet(mask, name, &value, sizeof value, nullptr, here);
  const int from = source(static_cast<int>(lane()));
  if (!(mask >> from & 1)) fail("shuffle reads a lane outside of its mask", here);
  T result;
  std::memcpy(&result, all[from], sizeof result);
  return result;
}

using Body = void (*)(const void* args);
/// A kernel that this process has; `tracked` where its accesses are reported.
struct Entry {
  const char* name;
  int most_threads;
  int64_t args_bytes;
  Body body;
  bool tracked;
};
struct Registration {
  explicit Registration(const Entry& entry);
};

}  // namespace lowrank::cuda::emulate
