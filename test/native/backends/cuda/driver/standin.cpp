#include "standin.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "backends/cuda/driver.h"
#include "interpreted.h"
#include "pack_bytes.h"

using namespace lowrank::cuda;

namespace lowrank::test::standin {
namespace {

constexpr size_t kPage = 4096, kArena = size_t{1} << 38, kAlignment = 256;
constexpr unsigned kMostSharedBytes = 163 * 1024, kUsualSharedBytes = 48 * 1024;
constexpr uint8_t kCanary = 0xa5;
constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

std::string variable(const char* name, const char* fallback) {
  const char* const value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

struct Allocated {
  size_t bytes;
  std::byte* pages;
  size_t pages_bytes;
};

struct Recorded {  // one use of an event
  bool done = false;
  int queries = 0;
};
struct Event {
  std::shared_ptr<Recorded> last;
};
struct Work {
  std::function<CUresult()> run;             // null for what only orders
  std::shared_ptr<Recorded> waits, records;  // at most one of them
  std::function<bool()> goes_on = nullptr;   // of what waits for other processes: false until it is done
};
/// Kernels that were captured, in their order, or the same as an executable.
struct Graph {
  std::vector<std::function<CUresult()>> kernels;
};
struct Stream {
  int number;
  std::deque<Work> queue;
  std::unique_ptr<Graph> capture;  // where it captures
  bool invalidated = false;        // the capture, by other work
};
struct Function {
  Kernel kernel;
  unsigned most_shared = kUsualSharedBytes;
};
struct Module {
  std::map<std::string, std::unique_ptr<Function>> functions;
  std::string names;  // of its kernels, one a line; empty where it does not say
  std::optional<InterpretedModule> code;
};

struct State {
  std::mutex mutex;
  bool ready = false;
  std::vector<int> devices;
  size_t memory = 0, most_pinned = 0;
  int version = 0;
  bool interprets = false;
  std::string order;
  std::mt19937 random;
  std::string failing, faulty, skipped;  // a function, two kernels
  int fails_at = 0, faults_at = 0, skipped_at = 0, calls = 0, runs = 0, skippable = 0;
  CUresult failure = CUDA_SUCCESS;

  int context_users = 0;
  CUresult stuck = CUDA_SUCCESS;
  std::byte* arena = nullptr;
  size_t arena_used = 0, in_use = 0;
  std::map<uint64_t, Allocated> allocated;
  std::map<std::byte*, size_t> pinned;
  std::vector<std::unique_ptr<Stream>> streams;
  std::set<Event*> events;
  std::set<Module*> modules;
  std::set<Graph*> graphs, executables;
  std::map<std::string, Kernel> kernels;
  std::string report;  // of what was left when the context was released
};

State& state() {
  static State* const one = new State;
  return *one;
}

thread_local bool has_context = false;
sigjmp_buf fault_exit;
struct sigaction other_handler;

void say(const std::string& text) { std::fprintf(stderr, "stand-in driver: %s\n", text.c_str()); }

/// Reads the environment.
void set_up(State& s) {
  s.ready = true;
  s.devices.clear();
  std::string list = variable("LOWRANK_STANDIN_DEVICES", "80");
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    s.devices.push_back(std::atoi(list.substr(at, end - at).c_str()));
    at = end + 1;
  }
  s.memory = std::strtoull(variable("LOWRANK_STANDIN_MEMORY", "4294967296").c_str(), nullptr, 10);
  s.most_pinned = std::strtoull(variable("LOWRANK_STANDIN_PINNED", "1099511627776").c_str(), nullptr, 10);
  s.version = std::atoi(variable("LOWRANK_STANDIN_VERSION", "12090").c_str());
  s.interprets = variable("LOWRANK_STANDIN", "") == "ptx";
  s.order = variable("LOWRANK_STANDIN_ORDER", "late");
  s.random.seed(s.order.rfind("random:", 0) == 0 ? std::strtoul(s.order.c_str() + 7, nullptr, 10) : 0);
  const auto split = [](const std::string& text, std::string& name, int& count) {
    const size_t colon = text.find(':');
    name = text.substr(0, colon);
    count = colon == std::string::npos ? 0 : std::atoi(text.c_str() + colon + 1);
    const size_t second = colon == std::string::npos ? colon : text.find(':', colon + 1);
    return second == std::string::npos ? 0 : std::atoi(text.c_str() + second + 1);
  };
  s.failure = split(variable("LOWRANK_STANDIN_FAIL", ""), s.failing, s.fails_at);
  if (s.failure == CUDA_SUCCESS)
    s.failure = s.failing.find("Alloc") != std::string::npos ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_LAUNCH_FAILED;
  split(variable("LOWRANK_STANDIN_FAULT", ""), s.faulty, s.faults_at);
  split(variable("LOWRANK_STANDIN_SKIP", ""), s.skipped, s.skipped_at);
  s.calls = s.runs = s.skippable = 0;
  const bool first = s.kernels.empty();
  if (first) each_kernel([&s](const Kernel& kernel) { s.kernels[kernel.name] = kernel; });
  if (const std::string path = variable("LOWRANK_STANDIN_PACK", ""); first && !path.empty()) {
    std::vector<std::string> names;
    for (const auto& [name, kernel] : s.kernels) names.push_back(name);
    const std::vector<uint8_t> bytes = PackBytes::of_names(names);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
}

/// Failure that the environment asks for.
CUresult planted(State& s, const char* name) {
  if (s.failing != name || ++s.calls != s.fails_at) return CUDA_SUCCESS;
  if (s.failure == CUDA_ERROR_LAUNCH_FAILED && s.context_users > 0) s.stuck = s.failure;
  return s.failure;
}

/// The allocation that a range lies in; null where it lies in none.
const Allocated* allocation_of(State& s, uint64_t at, size_t bytes) {
  auto next = s.allocated.upper_bound(at);
  if (next == s.allocated.begin()) return nullptr;
  const auto& [begin, own] = *--next;
  return at + bytes <= begin + own.bytes ? &own : nullptr;
}
bool is_pinned(State& s, const void* at, size_t bytes) {
  auto* const byte = static_cast<std::byte*>(const_cast<void*>(at));
  auto next = s.pinned.upper_bound(byte);
  if (next == s.pinned.begin()) return false;
  const auto& [begin, size] = *--next;
  return byte + bytes <= begin + size;
}

void protect(State& s, int how) {
  for (const auto& [at, own] : s.allocated) mprotect(own.pages, own.pages_bytes, how);
}

void on_fault(int signal, siginfo_t* info, void* context) {
  State& s = state();
  auto* const at = static_cast<std::byte*>(info->si_addr);
  if (at >= s.arena && at < s.arena + kArena) siglongjmp(fault_exit, 1);
  if (other_handler.sa_flags & SA_SIGINFO) return other_handler.sa_sigaction(signal, info, context);
  ::signal(signal, SIG_DFL);
}

/// Runs a kernel; what it touches outside of device memory ends it.
CUresult run_kernel(State& s, const Kernel& kernel, const Launch& launch) {
  if (s.faulty == kernel.name && ++s.runs == s.faults_at) return CUDA_ERROR_LAUNCH_FAILED;
  if (s.skipped == kernel.name && ++s.skippable == s.skipped_at) return CUDA_SUCCESS;
  struct sigaction own = {};
  own.sa_sigaction = on_fault;
  own.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, &own, &other_handler);
  CUresult result = CUDA_SUCCESS;
  if (sigsetjmp(fault_exit, 1) == 0) {
    try {
      kernel.run(launch);
    } catch (const std::exception& error) {
      say(kernel.name + ": " + error.what());
      result = CUDA_ERROR_LAUNCH_FAILED;
    }
  } else {
    say(kernel.name + " touched memory that is not allocated");
    result = CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  sigaction(SIGSEGV, &other_handler, nullptr);
  return result;
}

/// Runs the first work of a stream. False where it has none, or waits for another stream.
bool advance(State& s, Stream& stream) {
  if (stream.queue.empty()) return false;
  Work& first = stream.queue.front();
  if (first.waits && !first.waits->done) return false;
  if (first.goes_on && s.stuck == CUDA_SUCCESS && !first.goes_on()) return false;
  if (first.run && s.stuck == CUDA_SUCCESS) s.stuck = first.run();
  if (first.records) first.records->done = true;
  stream.queue.pop_front();
  return true;
}

/// The stream that is going to record a use of an event.
Stream* recorder_of(State& s, const std::shared_ptr<Recorded>& recorded) {
  for (const auto& stream : s.streams)
    for (const Work& work : stream->queue)
      if (work.records == recorded) return stream.get();
  return nullptr;
}

/// Leaves the driver to other threads for a moment, with device memory closed.
void rest(State& s) {
  protect(s, PROT_NONE);
  s.mutex.unlock();
  usleep(100);
  s.mutex.lock();
  protect(s, PROT_READ | PROT_WRITE);
}

/// Runs a stream until `done`, and of others what it waits for.
void run_until(State& s, Stream& stream, const std::function<bool()>& done) {
  while (!done()) {
    if (advance(s, stream)) continue;
    if (stream.queue.empty()) return;
    if (stream.queue.front().goes_on) {
      rest(s);
      continue;
    }
    const auto wanted = stream.queue.front().waits;
    Stream* const other = recorder_of(s, wanted);
    if (other == nullptr) {  // the event cannot come any more
      wanted->done = true;
      continue;
    }
    run_until(s, *other, [&] { return wanted->done; });
  }
}

class Opened {
 public:
  explicit Opened(State& s) : s_(s) { protect(s_, PROT_READ | PROT_WRITE); }
  ~Opened() { protect(s_, PROT_NONE); }

 private:
  State& s_;
};

/// Some work of random streams.
void wander(State& s) {
  if (s.streams.empty() || s.random() % 4 != 0) return;
  const Opened opened(s);
  for (unsigned turns = s.random() % 8; turns > 0; --turns) advance(s, *s.streams[s.random() % s.streams.size()]);
}

/// After new work on a stream.
void added(State& s, Stream& stream) {
  if (s.order.rfind("random:", 0) == 0) wander(s);
  if (s.order != "early" || stream.number == 0) return;
  const Opened opened(s);
  for (bool moved = true; moved;) {
    moved = false;
    for (const auto& each : s.streams)
      while (each->number != 0 && advance(s, *each)) moved = true;
  }
}

CUresult wait_for(State& s, Stream& stream, const std::function<bool()>& done) {
  const Opened opened(s);
  if (s.order.rfind("random:", 0) == 0)
    for (unsigned turns = s.random() % 16; turns > 0 && !done(); --turns)
      advance(s, *s.streams[s.random() % s.streams.size()]);
  run_until(s, stream, done);
  return s.stuck;
}

Stream* stream_of(State& s, CUstream handle) {
  for (const auto& each : s.streams)
    if (reinterpret_cast<CUstream>(each.get()) == handle) return each.get();
  return nullptr;
}

/// Calls that may not be made while a stream captures; what is captured is lost.
CUresult outside_capture(State& s) {
  for (const auto& each : s.streams)
    if (each->capture != nullptr) {
      say("a call that no graph can have was made while a stream captures");
      each->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  return CUDA_SUCCESS;
}

CUresult enqueue(State& s, CUstream handle, Work work) {
  Stream* const stream = stream_of(s, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  stream->queue.push_back(std::move(work));
  added(s, *stream);
  return CUDA_SUCCESS;
}

/// Checks again when it runs: memory may have been freed meanwhile.
CUresult enqueue_copy(State& s, CUstream stream, uint64_t to, bool to_device, uint64_t from, bool from_device,
                      size_t bytes) {
  const auto fits = [&s, bytes](uint64_t at, bool device) {
    return device ? allocation_of(s, at, bytes) != nullptr : is_pinned(s, reinterpret_cast<const void*>(at), bytes);
  };
  if (!fits(to, to_device) || !fits(from, from_device)) {
    say("a copy goes beyond memory that is allocated, or to or from memory of the host that is not pinned");
    return CUDA_ERROR_INVALID_VALUE;
  }
  return enqueue(s, stream,
                 {[=, &s] {
                    if (!fits(to, to_device) || !fits(from, from_device)) {
                      say("memory was freed while a copy was queued");
                      return CUDA_ERROR_ILLEGAL_ADDRESS;
                    }
                    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
                    return CUDA_SUCCESS;
                  },
                  nullptr, nullptr});
}

/// A kernel of a module: of its PTX, or compiled for the host. None where it has no such kernel.
std::optional<Kernel> kernel_of(const State& s, const Module& module, const std::string& name) {
  if (module.code) try {
      return module.code->kernel(name);
    } catch (const ptx::Unsupported& error) {
      say(name + ": " + error.what());
      return std::nullopt;
    }
  const auto found = s.kernels.find(name);
  const bool listed = module.names.empty() || module.names.find('\n' + name + '\n') != std::string::npos;
  return found == s.kernels.end() || !listed ? std::nullopt : std::optional(found->second);
}

void release_all(State& s) {
  const auto left = [&](size_t count, const char* what) {
    if (count > 0) s.report += std::to_string(count) + " " + what + "; ";
  };
  left(s.allocated.size(), "allocations");
  left(s.pinned.size(), "pinned allocations");
  left(s.streams.size(), "streams");
  left(s.events.size(), "events");
  left(s.modules.size(), "modules");
  left(s.graphs.size(), "graphs");
  left(s.executables.size(), "executable graphs");
  if (!s.report.empty()) say("left when the context was released: " + s.report);
  for (const auto& [at, own] : s.allocated) munmap(own.pages, own.pages_bytes);
  for (const auto& [at, bytes] : s.pinned) munmap(at, bytes);
  for (Event* const event : s.events) delete event;
  for (Module* const module : s.modules) delete module;
  for (const auto* const graphs : {&s.graphs, &s.executables})
    for (Graph* const graph : *graphs) delete graph;
  s.allocated.clear();
  s.pinned.clear();
  s.streams.clear();
  s.events.clear();
  s.modules.clear();
  s.graphs.clear();
  s.executables.clear();
  if (s.arena != nullptr) munmap(s.arena, kArena);
  s.arena = nullptr;
  s.arena_used = s.in_use = 0;
  s.stuck = CUDA_SUCCESS;
}

// Beginnings of the functions below.
#define ENTER(name)                                \
  State& s = state();                              \
  const std::lock_guard lock(s.mutex);             \
  if (!s.ready) return CUDA_ERROR_NOT_INITIALIZED; \
  if (const CUresult error = planted(s, #name); error != CUDA_SUCCESS) return error
#define ENTER_CONTEXT(name)                                                    \
  ENTER(name);                                                                 \
  if (!has_context || s.context_users == 0) return CUDA_ERROR_INVALID_CONTEXT; \
  if (s.stuck != CUDA_SUCCESS) return s.stuck
// What gives back does so whatever has failed, so that only what was not given back counts as left.
#define ENTER_FREE(name)                                                       \
  State& s = state();                                                          \
  const std::lock_guard lock(s.mutex);                                         \
  if (!has_context || s.context_users == 0) return CUDA_ERROR_INVALID_CONTEXT; \
  const CUresult failure = planted(s, #name)
#define LEAVE_FREE return failure != CUDA_SUCCESS ? failure : s.stuck

}  // namespace
}  // namespace lowrank::test::standin

using namespace lowrank::test::standin;
namespace {
using lowrank::test::standin::Event;
using lowrank::test::standin::Graph;
namespace ptx = lowrank::test::ptx;
}  // namespace
#define DRIVER extern "C" __attribute__((visibility("default"))) CUresult

DRIVER cuInit(unsigned) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  set_up(s);
  if (const CUresult error = planted(s, "cuInit"); error != CUDA_SUCCESS) return error;
  return s.devices.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}
DRIVER cuDriverGetVersion(int* version) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  set_up(s);  // may be called before cuInit
  *version = s.version;
  return planted(s, "cuDriverGetVersion");
}
DRIVER cuGetErrorName(CUresult error, const char** text) {
  static const std::map<CUresult, const char*> names = {
      {CUDA_SUCCESS, "CUDA_SUCCESS"},
      {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
      {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
      {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
      {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
      {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
      {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
      {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY"},
      {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
      {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
      {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
      {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
      {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
      {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
  };
  const auto found = names.find(error);
  *text = found == names.end() ? nullptr : found->second;
  return found == names.end() ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
DRIVER cuGetErrorString(CUresult error, const char** text) { return cuGetErrorName(error, text); }

DRIVER cuDeviceGetCount(int* count) {
  ENTER(cuDeviceGetCount);
  *count = static_cast<int>(s.devices.size());
  return CUDA_SUCCESS;
}
DRIVER cuDeviceGet(CUdevice* device, int ordinal) {
  ENTER(cuDeviceGet);
  if (ordinal < 0 || ordinal >= static_cast<int>(s.devices.size())) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}
DRIVER cuDeviceGetName(char* name, int length, CUdevice device) {
  ENTER(cuDeviceGetName);
  std::snprintf(name, static_cast<size_t>(length), "Stand-in %d", s.devices[static_cast<size_t>(device)]);
  return CUDA_SUCCESS;
}
DRIVER cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  ENTER(cuDeviceGetAttribute);
  const int sm = s.devices[static_cast<size_t>(device)];
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = sm / 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = sm % 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 8;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = static_cast<int>(kMostSharedBytes);
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
DRIVER cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  ENTER(cuDeviceGetPCIBusId);
  std::snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", device + 1);
  return CUDA_SUCCESS;
}
DRIVER cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  ENTER(cuDeviceTotalMem_v2);
  *bytes = s.memory;
  return CUDA_SUCCESS;
}

DRIVER cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  ENTER(cuDevicePrimaryCtxRetain);
  if (device < 0 || device >= static_cast<int>(s.devices.size())) return CUDA_ERROR_INVALID_DEVICE;
  if (s.context_users++ == 0) {
    s.report.clear();
    // Addresses that no other mapping has.
    void* const at = mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return --s.context_users, CUDA_ERROR_OUT_OF_MEMORY;
    s.arena = static_cast<std::byte*>(at);
  }
  *context = reinterpret_cast<CUcontext>(&s);
  return CUDA_SUCCESS;
}
DRIVER cuDevicePrimaryCtxRelease_v2(CUdevice) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.context_users == 0) return CUDA_ERROR_INVALID_CONTEXT;
  const CUresult failure = planted(s, "cuDevicePrimaryCtxRelease_v2");
  if (--s.context_users == 0) release_all(s);
  return failure;
}
DRIVER cuCtxSetCurrent(CUcontext context) {
  ENTER(cuCtxSetCurrent);
  if (context != nullptr && context != reinterpret_cast<CUcontext>(&s)) return CUDA_ERROR_INVALID_CONTEXT;
  has_context = context != nullptr;
  return CUDA_SUCCESS;
}

DRIVER cuMemGetInfo_v2(size_t* free, size_t* total) {
  ENTER_CONTEXT(cuMemGetInfo_v2);
  *total = s.memory;
  *free = s.memory - s.in_use;
  return CUDA_SUCCESS;
}
DRIVER cuMemAlloc_v2(CUdeviceptr* at, size_t bytes) {
  ENTER_CONTEXT(cuMemAlloc_v2);
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  // The end of the room is the end of a page, and the next page is nobody's.
  const size_t room = round_up(bytes, kAlignment), pages_bytes = round_up(room, kPage);
  if (bytes > s.memory - s.in_use || s.arena_used + pages_bytes + kPage > kArena) return CUDA_ERROR_OUT_OF_MEMORY;
  std::byte* const pages = s.arena + s.arena_used;
  if (mprotect(pages, pages_bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  s.arena_used += pages_bytes + kPage;
  s.in_use += bytes;
  std::byte* const begin = pages + pages_bytes - room;
  std::memset(begin, 0xff, bytes);
  std::memset(begin + bytes, kCanary, room - bytes);
  mprotect(pages, pages_bytes, PROT_NONE);
  *at = reinterpret_cast<uint64_t>(begin);
  s.allocated[*at] = {bytes, pages, pages_bytes};
  return CUDA_SUCCESS;
}
DRIVER cuMemFree_v2(CUdeviceptr at) {
  ENTER_FREE(cuMemFree_v2);
  const auto found = s.allocated.find(at);
  if (found == s.allocated.end()) return CUDA_ERROR_INVALID_VALUE;
  const Allocated own = found->second;
  mprotect(own.pages, own.pages_bytes, PROT_READ);
  const auto* const end = reinterpret_cast<const uint8_t*>(at) + own.bytes;
  const bool whole = std::all_of(end, end + (round_up(own.bytes, kAlignment) - own.bytes),
                                 [](uint8_t byte) { return byte == kCanary; });
  if (!whole)
    s.report += "something was written behind the end of an allocation of " + std::to_string(own.bytes) + " bytes; ";
  mprotect(own.pages, own.pages_bytes, PROT_NONE);
  madvise(own.pages, own.pages_bytes, MADV_DONTNEED);
  s.in_use -= own.bytes;
  s.allocated.erase(found);
  if (!whole) s.stuck = CUDA_ERROR_ILLEGAL_ADDRESS;
  LEAVE_FREE;
}
DRIVER cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  ENTER_CONTEXT(cuMemHostAlloc);
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  size_t taken = bytes;
  for (const auto& [begin, size] : s.pinned) taken += size;
  if (taken > s.most_pinned) return CUDA_ERROR_OUT_OF_MEMORY;
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  std::memset(pages, 0xff, std::min<size_t>(bytes, 1 << 16));  // all of a large one would take long
  s.pinned[static_cast<std::byte*>(pages)] = bytes;
  *at = pages;
  return CUDA_SUCCESS;
}
DRIVER cuMemFreeHost(void* at) {
  ENTER_FREE(cuMemFreeHost);
  const auto found = s.pinned.find(static_cast<std::byte*>(at));
  if (found == s.pinned.end()) return CUDA_ERROR_INVALID_VALUE;
  munmap(at, found->second);
  s.pinned.erase(found);
  LEAVE_FREE;
}

DRIVER cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT(cuMemcpyHtoDAsync_v2);
  return enqueue_copy(s, stream, to, true, reinterpret_cast<uint64_t>(from), false, bytes);
}
DRIVER cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT(cuMemcpyDtoHAsync_v2);
  return enqueue_copy(s, stream, reinterpret_cast<uint64_t>(to), false, from, true, bytes);
}
DRIVER cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER_CONTEXT(cuMemcpyDtoDAsync_v2);
  return enqueue_copy(s, stream, to, true, from, true, bytes);
}
DRIVER cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  ENTER_CONTEXT(cuMemsetD8Async);
  if (allocation_of(s, to, bytes) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(s, stream,
                 {[=, &s] {
                    if (allocation_of(s, to, bytes) == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
                    std::memset(reinterpret_cast<void*>(to), value, bytes);
                    return CUDA_SUCCESS;
                  },
                  nullptr, nullptr});
}
DRIVER cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                         CUstream stream) {
  ENTER_CONTEXT(cuMemsetD2D8Async);
  if (width == 0 || height == 0) return CUDA_SUCCESS;
  const size_t bytes = pitch * (height - 1) + width;
  if (width > pitch || allocation_of(s, to, bytes) == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(s, stream,
                 {[=, &s] {
                    if (allocation_of(s, to, bytes) == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
                    for (size_t row = 0; row < height; ++row)
                      std::memset(reinterpret_cast<void*>(to + row * pitch), value, width);
                    return CUDA_SUCCESS;
                  },
                  nullptr, nullptr});
}

DRIVER cuStreamCreate(CUstream* stream, unsigned flags) {
  ENTER_CONTEXT(cuStreamCreate);
  if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  s.streams.push_back(std::make_unique<Stream>());
  s.streams.back()->number = static_cast<int>(s.streams.size()) - 1;
  *stream = reinterpret_cast<CUstream>(s.streams.back().get());
  return CUDA_SUCCESS;
}
DRIVER cuStreamDestroy_v2(CUstream handle) {
  ENTER_FREE(cuStreamDestroy_v2);
  Stream* const stream = stream_of(s, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  wait_for(s, *stream, [&] { return stream->queue.empty(); });
  std::erase_if(s.streams, [&](const auto& each) { return each.get() == stream; });
  LEAVE_FREE;
}
DRIVER cuStreamSynchronize(CUstream handle) {
  ENTER_CONTEXT(cuStreamSynchronize);
  Stream* const stream = stream_of(s, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  return wait_for(s, *stream, [&] { return stream->queue.empty(); });
}
DRIVER cuStreamBeginCapture_v2(CUstream handle, int mode) {
  ENTER_CONTEXT(cuStreamBeginCapture_v2);
  Stream* const stream = stream_of(s, handle);
  if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if (mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL || stream->capture != nullptr) return CUDA_ERROR_INVALID_VALUE;
  stream->capture = std::make_unique<Graph>();
  stream->invalidated = false;
  return CUDA_SUCCESS;
}
DRIVER cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  ENTER_CONTEXT(cuStreamEndCapture);
  Stream* const stream = stream_of(s, handle);
  if (stream == nullptr || stream->capture == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const std::unique_ptr<Graph> made = std::move(stream->capture);
  *graph = nullptr;
  if (stream->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  auto* const kept = new Graph(*made);
  s.graphs.insert(kept);
  *graph = reinterpret_cast<CUgraph>(kept);
  return CUDA_SUCCESS;
}
DRIVER cuGraphInstantiateWithFlags(CUgraphExec* made, CUgraph handle, unsigned long long flags) {
  ENTER_CONTEXT(cuGraphInstantiateWithFlags);
  auto* const graph = reinterpret_cast<Graph*>(handle);
  if (!s.graphs.contains(graph) || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  auto* const executable = new Graph(*graph);
  s.executables.insert(executable);
  *made = reinterpret_cast<CUgraphExec>(executable);
  return CUDA_SUCCESS;
}
DRIVER cuGraphDestroy(CUgraph handle) {
  ENTER_FREE(cuGraphDestroy);
  auto* const graph = reinterpret_cast<Graph*>(handle);
  if (s.graphs.erase(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
  delete graph;
  LEAVE_FREE;
}
DRIVER cuGraphExecDestroy(CUgraphExec handle) {
  ENTER_FREE(cuGraphExecDestroy);
  auto* const graph = reinterpret_cast<Graph*>(handle);
  if (s.executables.erase(graph) == 0) return CUDA_ERROR_INVALID_VALUE;
  delete graph;
  LEAVE_FREE;
}
DRIVER cuGraphLaunch(CUgraphExec handle, CUstream stream) {
  ENTER_CONTEXT(cuGraphLaunch);
  auto* const graph = reinterpret_cast<Graph*>(handle);
  if (!s.executables.contains(graph)) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(s, stream,
                 {[graph, &s] {
                    if (!s.executables.contains(graph)) {
                      say("a graph was destroyed while it was queued");
                      return CUDA_ERROR_ILLEGAL_ADDRESS;
                    }
                    CUresult result = CUDA_SUCCESS;
                    for (const auto& kernel : graph->kernels)
                      if (result == CUDA_SUCCESS) result = kernel();
                    return result;
                  },
                  nullptr, nullptr});
}
DRIVER cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned) {
  ENTER_CONTEXT(cuStreamWaitEvent);
  auto* const event = reinterpret_cast<Event*>(handle);
  if (!s.events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  return event->last ? enqueue(s, stream, {nullptr, event->last, nullptr}) : CUDA_SUCCESS;
}
DRIVER cuEventCreate(CUevent* event, unsigned) {
  ENTER_CONTEXT(cuEventCreate);
  auto* const made = new Event;
  s.events.insert(made);
  *event = reinterpret_cast<CUevent>(made);
  return CUDA_SUCCESS;
}
DRIVER cuEventDestroy_v2(CUevent handle) {
  ENTER_FREE(cuEventDestroy_v2);
  auto* const event = reinterpret_cast<Event*>(handle);
  if (s.events.erase(event) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete event;
  LEAVE_FREE;
}
DRIVER cuEventRecord(CUevent handle, CUstream stream) {
  ENTER_CONTEXT(cuEventRecord);
  auto* const event = reinterpret_cast<Event*>(handle);
  if (!s.events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  event->last = std::make_shared<Recorded>();
  return enqueue(s, stream, {nullptr, nullptr, event->last});
}
DRIVER cuEventQuery(CUevent handle) {
  ENTER_CONTEXT(cuEventQuery);
  auto* const event = reinterpret_cast<Event*>(handle);
  if (!s.events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  const auto last = event->last;
  // A host that asks again and again is waiting.
  constexpr int kPatience = 64;
  if (last && !last->done && ++last->queries > kPatience)
    if (Stream* const stream = recorder_of(s, last); stream != nullptr) {
      const Opened opened(s);
      while (!last->done && advance(s, *stream)) {
      }
    }
  if (s.stuck != CUDA_SUCCESS) return s.stuck;
  return !last || last->done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}
DRIVER cuEventSynchronize(CUevent handle) {
  ENTER_CONTEXT(cuEventSynchronize);
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  auto* const event = reinterpret_cast<Event*>(handle);
  if (!s.events.contains(event)) return CUDA_ERROR_INVALID_HANDLE;
  const auto last = event->last;
  Stream* const stream = last ? recorder_of(s, last) : nullptr;
  return stream == nullptr ? s.stuck : wait_for(s, *stream, [&] { return last->done; });
}

DRIVER cuModuleLoadData(CUmodule* module, const void* image) {
  ENTER_CONTEXT(cuModuleLoadData);
  if (const CUresult error = outside_capture(s); error != CUDA_SUCCESS) return error;
  const auto* const text = static_cast<const char*>(image);
  const bool cubin = std::memcmp(text, "\177ELF", 4) == 0;
  if (!cubin && std::strstr(text, ".version") == nullptr) return CUDA_ERROR_INVALID_IMAGE;
  auto made = std::make_unique<Module>();
  if (s.interprets) try {
      if (cubin)
        throw ptx::Unsupported("a cubin cannot be interpreted; a card of LOWRANK_STANDIN_DEVICES=130 takes PTX");
      made->code.emplace(text, [&s] {
        ptx::Memory allocations;
        for (const auto& [at, own] : s.allocated)
          allocations.add(reinterpret_cast<const void*>(at), static_cast<int64_t>(own.bytes));
        return allocations;
      });
    } catch (const ptx::Unsupported& error) {
      say(error.what());
      return CUDA_ERROR_INVALID_IMAGE;
    }
  // Cubins of tests are the names of their kernels.
  if (cubin && std::strncmp(text + 4, "names\n", 6) == 0) made->names.append(1, '\n').append(text + 10).append(1, '\n');
  s.modules.insert(made.get());
  *module = reinterpret_cast<CUmodule>(made.release());
  return CUDA_SUCCESS;
}
DRIVER cuModuleUnload(CUmodule handle) {
  ENTER_FREE(cuModuleUnload);
  auto* const module = reinterpret_cast<Module*>(handle);
  if (s.modules.erase(module) == 0) return CUDA_ERROR_INVALID_HANDLE;
  delete module;
  LEAVE_FREE;
}
DRIVER cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  ENTER_CONTEXT(cuModuleGetFunction);
  auto* const module = reinterpret_cast<Module*>(handle);
  if (!s.modules.contains(module)) return CUDA_ERROR_INVALID_HANDLE;
  auto& made = module->functions[name];
  if (made == nullptr) {
    const std::optional<Kernel> found = kernel_of(s, *module, name);
    if (!found) return CUDA_ERROR_NOT_FOUND;
    made = std::make_unique<Function>(Function{*found});
  }
  *function = reinterpret_cast<CUfunction>(made.get());
  return CUDA_SUCCESS;
}
DRIVER cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  ENTER_CONTEXT(cuFuncSetAttribute);
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      value > static_cast<int>(kMostSharedBytes))
    return CUDA_ERROR_INVALID_VALUE;
  reinterpret_cast<Function*>(function)->most_shared = static_cast<unsigned>(value);
  return CUDA_SUCCESS;
}
DRIVER cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void** parameters,
                      void** extra) {
  ENTER_CONTEXT(cuLaunchKernel);
  const auto& function = *reinterpret_cast<const Function*>(handle);
  const Kernel kernel = function.kernel;
  const uint64_t threads = uint64_t{block_x} * block_y * block_z;
  if (grid_x == 0 || grid_y == 0 || grid_z == 0 || threads == 0 || grid_x > 0x7fffffffu || grid_y > 65535 ||
      grid_z > 65535 || threads > 1024 || extra != nullptr || kernel.args_bytes > 4096)
    return CUDA_ERROR_INVALID_VALUE;
  if (threads > static_cast<uint64_t>(kernel.most_threads) || shared > function.most_shared)
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  const auto* const from = static_cast<const std::byte*>(parameters[0]);
  // Aligned as a struct is, whatever the vector's bytes are.
  auto args = std::make_shared<std::vector<uint64_t>>(static_cast<size_t>(kernel.args_bytes + 15) / 8);
  std::memcpy(args->data(), from, static_cast<size_t>(kernel.args_bytes));
  const auto run = [=, &s] {
    const uint64_t seed = s.order.rfind("random:", 0) == 0 ? s.random() | 1 : 0;
    return run_kernel(s, kernel, {{grid_x, grid_y, grid_z}, static_cast<int>(threads), shared, args->data(), seed});
  };
  if (Stream* const own = stream_of(s, stream); own != nullptr && own->capture != nullptr) {
    own->capture->kernels.push_back(run);
    return CUDA_SUCCESS;
  }
  return enqueue(s, stream, {run, nullptr, nullptr});
}

/// Queues work of a library, in order with the stream's own. @param drop frees the data, also where the work is not
/// done
extern "C" __attribute__((visibility("default"))) int lowrank_standin_work(CUstream stream, void (*work)(void*),
                                                                           void (*drop)(void*), void* data) {
  const std::shared_ptr<void> own(data, drop);
  ENTER_CONTEXT(lowrank_standin_work);
  return enqueue(s, stream,
                 {[=] {
                    work(own.get());
                    return CUDA_SUCCESS;
                  },
                  nullptr, nullptr});
}

/// The same for work that waits for other processes: asked again and again until it returns 1.
extern "C" __attribute__((visibility("default"))) int lowrank_standin_goes_on(CUstream stream, int (*goes_on)(void*),
                                                                              void* data) {
  ENTER_CONTEXT(lowrank_standin_goes_on);
  return enqueue(s, stream, {nullptr, nullptr, nullptr, [=] { return goes_on(data) != 0; }});
}

/// Leaks that were found when the last context was released; empty if there were none.
extern "C" __attribute__((visibility("default"))) const char* lowrank_standin_leaks() { return state().report.c_str(); }

#define SAME(name, parameters) static_assert(std::is_same_v<decltype(&name), decltype(Driver::name)>);
LOWRANK_DRIVER_CALLS(SAME)
