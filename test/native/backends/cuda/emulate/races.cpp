#include "backends/cuda/emulate/races.h"

#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <unordered_map>

namespace lowrank::cuda::emulate {
namespace {

/// The last access of a kind to a byte.
struct Access {
  uint64_t block = 0;  // counted over all launches
  uint32_t barriers = 0, syncs = 0;
  uint32_t thread = 0, warp = 0;
  const void* code = nullptr;
};
/// Readers of a byte since the last barrier.
enum class Readers : uint8_t { thread, warp, warps };
struct Cell {
  Access write, read;
  Readers readers = Readers::thread;
  bool in_flight = false;
};

constexpr uintptr_t kPage = 512;

struct State {
  const SharedMemory* shared = nullptr;
  const DeviceMemory* global = nullptr;
  std::unordered_map<uintptr_t, std::unique_ptr<Cell[]>> pages;
  uintptr_t last_page = 0;
  Cell* last = nullptr;
  uint64_t block = 0, first_block = 0;
  uint32_t barriers = 0;
  std::string fault;
  bool on = false;
};
State state;

/// File and line of an instruction, and of the calls that it was inlined from, as far as this machine can tell.
std::string line_of(const void* code) {
  Dl_info info;
  if (!code || !dladdr(code, &info) || !info.dli_fname) return "?";
  const auto offset = reinterpret_cast<uintptr_t>(code) - reinterpret_cast<uintptr_t>(info.dli_fbase) - 1;
  char command[512], line[512];
  std::snprintf(command, sizeof command, "addr2line -s -i -e '%s' %#lx 2>/dev/null", info.dli_fname,
                static_cast<unsigned long>(offset));
  std::string text;
  if (FILE* const pipe = popen(command, "r")) {
    while (std::fgets(line, sizeof line, pipe)) {
      const std::string one = line;
      if (one[0] != '?') text += (text.empty() ? "" : " from ") + one.substr(0, one.find_first_of(" \n"));
    }
    pclose(pipe);
  }
  return text.empty() ? "instruction " + std::to_string(offset) : text;
}

std::string thread_of(unsigned thread, uint3 block) {
  return "thread " + std::to_string(thread) + " of block " + std::to_string(block.x) + ", " + std::to_string(block.y) +
         ", " + std::to_string(block.z);
}

void report(const char* kind, const Access& before, const Running& who, const void* code) {
  if (!state.fault.empty()) return;
  state.on = false;
  state.fault = std::string("race: ") + kind + ", thread " + std::to_string(before.thread) + " at " +
                line_of(before.code) + " and " + thread_of(who.thread, who.block) + " at " + line_of(code);
  if (before.block != state.block) state.fault += ", in different blocks";
}

Cell& cell(uintptr_t at) {
  const uintptr_t page = at / kPage;
  if (page != state.last_page || !state.last) {
    auto& cells = state.pages[page];
    if (!cells) cells = std::make_unique<Cell[]>(kPage);
    state.last = cells.get();
    state.last_page = page;
  }
  return state.last[at % kPage];
}

bool concurrent(const Access& before, Readers readers, const Running& who, bool in_shared) {
  if (before.block < state.first_block || before.block == 0) return false;
  if (before.block != state.block) return !in_shared;
  if (before.barriers != state.barriers) return false;
  if (readers == Readers::warps) return true;
  if (before.thread == who.thread && readers == Readers::thread) return false;
  return before.warp != who.warp || before.syncs == who.syncs;
}

Readers readers_with(const Cell& c, const Running& who) {
  if (c.read.block != state.block || c.read.barriers != state.barriers) return Readers::thread;
  if (c.readers == Readers::warps || c.read.warp != who.warp) return Readers::warps;
  if (c.read.syncs != who.syncs) return Readers::thread;
  return c.read.thread != who.thread ? Readers::warp : c.readers;
}

}  // namespace

namespace races {

void begin_launch(const SharedMemory& shared, const DeviceMemory* global) {
  state.shared = &shared;
  state.global = global;
  state.first_block = state.block + 1;
  state.fault.clear();
  state.on = true;
}

void begin_block() {
  ++state.block;
  ++state.barriers;
}

void pass_barrier() { ++state.barriers; }

std::string end_launch() {
  state.on = false;
  state.pages.clear();
  state.last = nullptr;
  return state.fault;
}

void access(const void* at, int64_t bytes, bool write, const void* code) {
  if (!state.on) return;
  const bool in_shared = state.shared->covers(at);
  if (!in_shared && !(state.global && state.global->covers(at))) return;
  Running who;
  if (!running(who)) return;
  if (!(in_shared ? state.shared->holds(at, bytes) : state.global->holds(at, bytes))) {
    state.on = false;
    state.fault = std::string(write ? "write" : "read") + " of " + std::to_string(bytes) + " bytes outside of " +
                  (in_shared ? "every shared array" : "every buffer") + " at " + line_of(code) + " by " +
                  thread_of(who.thread, who.block);
    return;
  }
  const Access now{state.block, state.barriers, who.syncs, who.thread, who.warp, code};
  for (int64_t i = 0; i < bytes && state.on; ++i) {
    Cell& c = cell(reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(i));
    if (c.in_flight && in_shared && c.write.block == state.block)
      report("access to bytes that cp.async is still writing", c.write, who, code);
    if (concurrent(c.write, Readers::thread, who, in_shared))
      report(write ? "two writes" : "read of a write", c.write, who, code);
    if (write) {
      if (concurrent(c.read, c.readers, who, in_shared)) report("write over a read", c.read, who, code);
      c.write = now;
    } else {
      c.readers = readers_with(c, who);
      c.read = now;
    }
  }
}

void copy_begins(const void* shared, int64_t bytes) {
  for (int64_t i = 0; i < bytes; ++i)
    cell(reinterpret_cast<uintptr_t>(shared) + static_cast<uintptr_t>(i)).in_flight = true;
}

void copy_ends(const void* shared, int64_t bytes) {
  for (int64_t i = 0; i < bytes; ++i)
    cell(reinterpret_cast<uintptr_t>(shared) + static_cast<uintptr_t>(i)).in_flight = false;
}

}  // namespace races
}  // namespace lowrank::cuda::emulate

// ---- the compiler's names

namespace {
using lowrank::cuda::emulate::races::access;
}
#define LOWRANK_ACCESSES(n)                                                                      \
  void __tsan_read##n(void* at) { access(at, n, false, __builtin_return_address(0)); }           \
  void __tsan_write##n(void* at) { access(at, n, true, __builtin_return_address(0)); }           \
  void __tsan_unaligned_read##n(void* at) { access(at, n, false, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##n(void* at) { access(at, n, true, __builtin_return_address(0)); }
extern "C" {
LOWRANK_ACCESSES(1)
LOWRANK_ACCESSES(2)
LOWRANK_ACCESSES(4)
LOWRANK_ACCESSES(8)
LOWRANK_ACCESSES(16)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* at, unsigned long n) {
  access(at, static_cast<int64_t>(n), false, __builtin_return_address(0));
}
void __tsan_write_range(void* at, unsigned long n) {
  access(at, static_cast<int64_t>(n), true, __builtin_return_address(0));
}
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  access(from, static_cast<int64_t>(n), false, __builtin_return_address(0));
  access(to, static_cast<int64_t>(n), true, __builtin_return_address(0));
  return __builtin_memcpy(to, from, n);
}
void* __tsan_memset(void* to, int value, unsigned long n) {
  access(to, static_cast<int64_t>(n), true, __builtin_return_address(0));
  return __builtin_memset(to, value, n);
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
// Atomic accesses are ordered.
int __tsan_atomic32_fetch_add(int* at, int value, int) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
int __tsan_atomic32_load(const int* at, int) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
unsigned char __tsan_atomic8_load(const unsigned char* at, int) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
}
