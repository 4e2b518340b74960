#include "backends/cuda/emulate/machine.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <random>

#include "backends/cuda/emulate/fiber.h"
#include "backends/cuda/emulate/races.h"

namespace lowrank::cuda::emulate {
namespace {

/// Static shared memory that a block may have, and bytes of arguments.
constexpr int64_t kMostStaticShared = 48 * 1024, kMostArgs = 4096;
constexpr int kMostThreads = 1024;

struct Copy {
  void* to;
  const void* from;
  int bytes, filled;
  unsigned group;
  Place here;
};

struct Thread {
  Fiber fiber;
  unsigned index = 0;
  bool done = false;
  const char* waits = nullptr;  // for
  Place here{};
  std::vector<Copy> copies;
  unsigned groups = 0;  // of copies, committed
  unsigned syncs = 0;   // of its warp
  unsigned warp() const { return index / 32; }
  unsigned lane() const { return index % 32; }
};

/// Lanes of a warp that meet by a mask. Deposits of a meeting stay while lanes of the next arrive.
struct Meeting {
  unsigned mask = 0, arrived = 0, turn = 0;
  const char* name = nullptr;
  Place here{};
  std::vector<Thread*> waiting;
  alignas(16) unsigned char deposits[2][32][kDeposit];
};

struct Machine {
  Options options;
  uint3 grid{}, block{}, size{};
  Body body = nullptr;
  const void* args = nullptr;
  int64_t dynamic_bytes = 0;

  Stacks stacks;
  std::vector<Thread> threads;
  std::deque<Thread*> ready;
  Thread* current = nullptr;
  unsigned live = 0;
  std::vector<Thread*> at_barrier;
  const char* barrier_name = nullptr;
  Place barrier_here{};
  Votes votes{}, result{};
  std::vector<std::vector<std::unique_ptr<Meeting>>> warps;

  SharedMemory shared;
  std::map<const void*, void*> arrays;
  void* dynamic = nullptr;
  int64_t static_bytes = 0;

  std::mt19937_64 random;
  std::string error;
};
Machine machine;

std::string show(Place here) {
  const char* name = std::strrchr(here.file, '/');
  return std::string(name ? name + 1 : here.file) + ":" + std::to_string(here.line);
}

/// Names and files are literals, so equal ones mostly have one address.
bool same(const char* a, const char* b) { return a == b || std::strcmp(a, b) == 0; }
bool same(Place a, Place b) { return a.line == b.line && same(a.file, b.file); }

std::string name_of(const Thread& thread) {
  return "thread " + std::to_string(thread.index) + " of block " + std::to_string(machine.block.x) + ", " +
         std::to_string(machine.block.y) + ", " + std::to_string(machine.block.z);
}

/// From a fiber: the launch ends there. Nothing on its stack is destroyed, so it must own nothing.
/// @param describe returns what is wrong
template <class Describe>
[[noreturn]] void stop(Describe&& describe) {
  machine.error = describe();
  machine.current->fiber.leave(true);
  std::abort();
}

void wait(const char* name, Place here) {
  machine.current->waits = name;
  machine.current->here = here;
  machine.current->fiber.leave();
}

void perform(const Copy& copy) {
  std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
  std::memset(static_cast<std::byte*>(copy.to) + copy.bytes, 0, static_cast<size_t>(copy.filled - copy.bytes));
}

void begin_thread() {
  Fiber::arrived();
  machine.body(machine.args);
  Thread& me = *machine.current;
  if (!me.copies.empty())
    stop([&] {
      return "a copy of cp.async at " + show(me.copies.front().here) + " is never waited for by " + name_of(me);
    });
  if (!machine.at_barrier.empty())
    stop([&] {
      return std::string(machine.barrier_name) + " at " + show(machine.barrier_here) + " is not reached by " +
             name_of(me) + ", which has ended";
    });
  me.done = true;
  --machine.live;
  me.fiber.leave(true);
  std::abort();
}

Thread* next() {
  auto& ready = machine.ready;
  size_t at = 0;
  if (machine.options.order == Order::reverse) at = ready.size() - 1;
  if (machine.options.order == Order::random) at = machine.random() % ready.size();
  std::swap(ready[at], machine.options.order == Order::forward ? ready.front() : ready.back());
  Thread* const thread = machine.options.order == Order::forward ? ready.front() : ready.back();
  machine.options.order == Order::forward ? ready.pop_front() : ready.pop_back();
  return thread;
}

std::string deadlock() {
  std::string text = "deadlock in block " + std::to_string(machine.block.x) + ": " + std::to_string(machine.live) +
                     " of " + std::to_string(machine.threads.size()) + " threads wait";
  std::map<std::string, std::pair<int, unsigned>> places;  // number of threads, and the first
  for (const Thread& thread : machine.threads) {
    if (thread.done) continue;
    auto& [count, first] =
        places.try_emplace(std::string(thread.waits) + " at " + show(thread.here), 0, thread.index).first->second;
    ++count;
  }
  for (const auto& [place, who] : places)
    text +=
        ", " + std::to_string(who.first) + " of them, thread " + std::to_string(who.second) + " first, for " + place;
  return text;
}

void run_block(uint3 block) {
  machine.block = block;
  machine.arrays.clear();
  machine.static_bytes = 0;
  machine.shared.clear(machine.options.card.shared_bytes);
  machine.dynamic = machine.dynamic_bytes > 0 ? machine.shared.place(machine.dynamic_bytes, 128) : nullptr;
  machine.warps.clear();
  machine.warps.resize(machine.threads.size() / 32);
  machine.at_barrier.clear();
  machine.votes = {};
  machine.ready.clear();
  machine.live = static_cast<unsigned>(machine.threads.size());
  if (machine.options.tracked) races::begin_block();
  for (unsigned i = 0; i < machine.threads.size(); ++i) {
    Thread& thread = machine.threads[i];
    thread.index = i;
    thread.done = false;
    thread.copies.clear();
    thread.groups = thread.syncs = 0;
    thread.fiber.start(machine.stacks.at(i), begin_thread);
    machine.ready.push_back(&thread);
  }
  while (!machine.ready.empty()) {
    machine.current = next();
    machine.current->fiber.enter();
    if (!machine.error.empty()) return;
  }
  if (machine.live > 0) machine.error = deadlock();
}

/// Numbers of blocks in the order in which they run.
std::vector<int64_t> order_of_blocks(int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (machine.options.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (machine.options.order == Order::random) std::shuffle(order.begin(), order.end(), machine.random);
  return order;
}

std::vector<Entry>& registry() {
  static std::vector<Entry> kernels;
  return kernels;
}

}  // namespace

Registration::Registration(const Entry& entry) { registry().push_back(entry); }
std::vector<Entry> all_kernels() { return registry(); }
bool has_tracked_kernels() {
  return std::any_of(registry().begin(), registry().end(), [](const Entry& entry) { return entry.tracked; });
}

const Entry* find_kernel(const std::string& name, bool tracked) {
  for (const Entry& entry : registry())
    if (entry.name == name && entry.tracked == tracked) return &entry;
  return nullptr;
}

void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes, int64_t shared_bytes,
            const Options& options) {
  const std::string name = kernel;
  const Entry* const entry = find_kernel(name, options.tracked);
  if (!entry) throw Error(name + ": there is no such kernel");
  const auto check = [&](bool holds, const std::string& what) {
    if (!holds) throw Error(name + ": " + what);
  };
  check(args_bytes == entry->args_bytes && args_bytes <= kMostArgs,
        std::to_string(args_bytes) + " bytes of arguments, expected " + std::to_string(entry->args_bytes));
  check(threads > 0 && threads % 32 == 0 && threads <= entry->most_threads && threads <= kMostThreads,
        std::to_string(threads) + " threads, expected whole warps, at most " + std::to_string(entry->most_threads));
  check(blocks.x > 0 && blocks.x <= kMostBlocks && blocks.y > 0 && blocks.y <= kMostBlocksAcross && blocks.z > 0 &&
            blocks.z <= kMostBlocksAcross,
        "grid of " + std::to_string(blocks.x) + ", " + std::to_string(blocks.y) + ", " + std::to_string(blocks.z));
  check(shared_bytes >= 0 && shared_bytes <= options.card.shared_bytes, std::to_string(shared_bytes) +
                                                                            " bytes of shared memory, the card has " +
                                                                            std::to_string(options.card.shared_bytes));

  machine.options = options;
  machine.random.seed(options.seed);
  machine.grid = {static_cast<unsigned>(blocks.x), static_cast<unsigned>(blocks.y), static_cast<unsigned>(blocks.z)};
  machine.size = {static_cast<unsigned>(threads), 1, 1};
  machine.body = entry->body;
  machine.args = args;
  machine.dynamic_bytes = shared_bytes;
  machine.error.clear();
  machine.stacks.reserve(static_cast<size_t>(threads));
  machine.threads.clear();
  machine.threads.resize(static_cast<size_t>(threads));
  if (options.tracked) races::begin_launch(machine.shared, options.memory);
  for (const int64_t i : order_of_blocks(blocks.x * blocks.y * blocks.z)) {
    run_block({static_cast<unsigned>(i % blocks.x), static_cast<unsigned>(i / blocks.x % blocks.y),
               static_cast<unsigned>(i / (blocks.x * blocks.y))});
    if (!machine.error.empty()) break;
  }
  machine.current = nullptr;
  if (options.tracked) {
    const std::string race = races::end_launch();
    if (machine.error.empty()) machine.error = race;
  }
  if (!machine.error.empty()) throw Error(name + ": " + machine.error);
}

bool running(Running& who) {
  const Thread* const me = machine.current;
  if (!me) return false;
  who = {me->index, me->warp(), me->syncs, machine.block};
  return true;
}

// ---- for kernels

void fail(const char* what, Place here) {
  stop([&] { return std::string(what) + " at " + show(here) + " by " + name_of(*machine.current); });
}

uint3 thread_index() { return {machine.current->index, 0, 0}; }
uint3 block_index() { return machine.block; }
uint3 block_size() { return machine.size; }
uint3 grid_size() { return machine.grid; }
unsigned lane() { return machine.current->lane(); }

Votes barrier(const char* name, bool vote, Place here) {
  if (machine.live != machine.threads.size()) fail("barrier that threads which have ended do not reach", here);
  auto& waiting = machine.at_barrier;
  if (waiting.empty()) {
    machine.barrier_name = name;
    machine.barrier_here = here;
  } else if (!same(machine.barrier_here, here)) {
    stop([&] {
      return "divergence: " + std::string(machine.barrier_name) + " at " + show(machine.barrier_here) + " meets " +
             name + " at " + show(here);
    });
  }
  ++machine.votes.all;
  machine.votes.yes += vote;
  waiting.push_back(machine.current);
  if (waiting.size() == machine.threads.size()) {
    machine.result = machine.votes;
    machine.votes = {};
    machine.ready.insert(machine.ready.end(), waiting.begin(), waiting.end());
    waiting.clear();
    if (machine.options.tracked) races::pass_barrier();
  }
  wait(name, here);
  return machine.result;
}

static Meeting& meeting_of(std::vector<std::unique_ptr<Meeting>>& all, unsigned mask) {
  for (const auto& meeting : all)
    if (meeting->mask == mask) return *meeting;
  all.push_back(std::make_unique<Meeting>());
  all.back()->mask = mask;
  return *all.back();
}

Deposits meet(unsigned mask, const char* name, const void* bytes, unsigned count, void (*finish)(Deposits),
              Place here) {
  Thread& me = *machine.current;
  if (!(mask >> me.lane() & 1)) fail("warp operation by a lane that is not in its mask", here);
  const unsigned first = me.warp() * 32;
  Meeting& meeting = meeting_of(machine.warps[me.warp()], mask);
  if (meeting.arrived == 0) {
    for (unsigned i = 0; i < 32; ++i)
      if ((mask >> i & 1) && machine.threads[first + i].done) fail("warp operation with a lane that has ended", here);
    meeting.name = name;
    meeting.here = here;
  } else if (!same(meeting.name, name) || !same(meeting.here, here)) {
    stop([&] {
      return "divergence: " + std::string(meeting.name) + " at " + show(meeting.here) + " meets " + name + " at " +
             show(here);
    });
  }
  const Deposits deposits = meeting.deposits[meeting.turn & 1];
  if (count > 0) std::memcpy(deposits[me.lane()], bytes, count);
  meeting.arrived |= 1u << me.lane();
  if (meeting.arrived != mask) {
    meeting.waiting.push_back(&me);
    wait(name, here);
    return deposits;
  }
  meeting.arrived = 0;
  ++meeting.turn;
  if (finish) finish(deposits);
  if (same(name, "__syncwarp")) {  // the others order no memory
    for (unsigned i = 0; i < 32; ++i)
      if (mask >> i & 1) ++machine.threads[first + i].syncs;
  }
  machine.ready.insert(machine.ready.end(), meeting.waiting.begin(), meeting.waiting.end());
  meeting.waiting.clear();
  return deposits;
}

void* shared_array(const void* tag, int64_t bytes, int64_t alignment) {
  void*& at = machine.arrays[tag];
  if (!at) {
    machine.static_bytes += bytes;
    if (machine.static_bytes > kMostStaticShared)
      stop([&] { return std::string("over 48 KiB of static shared memory"); });
    at = machine.shared.place(bytes, alignment);
    if (!at || machine.static_bytes + machine.dynamic_bytes > machine.options.card.shared_bytes)
      stop([&] { return std::string("more shared memory than the card has"); });
  }
  return at;
}

void* dynamic_shared(Place here) {
  if (!machine.dynamic) fail("dynamic shared memory of a launch without any", here);
  return machine.dynamic;
}

void copy_async(void* shared, const void* global, int bytes, int filled, Place here) {
  check_alignment(shared, 16, "cp.async to an address that is not aligned to 16 bytes", here);
  check_alignment(global, 16, "cp.async from an address that is not aligned to 16 bytes", here);
  if (bytes < 0 || bytes > filled) fail("cp.async of a size that is not from 0 to 16 bytes", here);
  if (!machine.shared.holds(shared)) fail("cp.async to what is not shared memory", here);
  Thread& me = *machine.current;
  const Copy copy{shared, global, bytes, filled, me.groups, here};
  if (machine.options.tracked) {
    if (bytes > 0)
      races::access(global, bytes, false, __builtin_return_address(0));  // else the address does not matter
    races::access(shared, filled, true, __builtin_return_address(0));
    races::copy_begins(shared, filled);
  }
  if (!machine.options.late_copies) perform(copy);
  me.copies.push_back(copy);
}

void commit_copies() { ++machine.current->groups; }

void wait_copies(unsigned keep) {
  Thread& me = *machine.current;
  const auto waits = [&](const Copy& copy) { return copy.group + keep < me.groups; };
  const auto end = std::find_if_not(me.copies.begin(), me.copies.end(), waits);
  for (auto copy = me.copies.begin(); copy != end; ++copy) {
    if (machine.options.late_copies) perform(*copy);
    if (machine.options.tracked) races::copy_ends(copy->to, copy->filled);
  }
  me.copies.erase(me.copies.begin(), end);
}

namespace {
struct MmaOperands {
  float d[4];
  uint32_t a[4], b[2];
};

void multiply(Deposits deposits) {
  float a[16][16], b[16][8], product[16][8] = {};
  MmaOperands lanes[32];
  const auto low = [](uint32_t pair) { return std::bit_cast<float>(pair << 16); };
  const auto high = [](uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); };
  for (int lane = 0; lane < 32; ++lane) {
    std::memcpy(&lanes[lane], deposits[lane], sizeof(MmaOperands));
    const int g = lane / 4, t = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      float* const to = &a[g + i % 2 * 8][t + i / 2 * 8];
      to[0] = low(lanes[lane].a[i]);
      to[1] = high(lanes[lane].a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[t + i * 8][g] = low(lanes[lane].b[i]);
      b[t + i * 8 + 1][g] = high(lanes[lane].b[i]);
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int col = 0; col < 8; ++col) product[row][col] += a[row][k] * b[k][col];
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) lanes[lane].d[i] += product[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    std::memcpy(deposits[lane], &lanes[lane], sizeof(MmaOperands));
  }
}
}  // namespace

void multiply_matrices(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place here) {
  MmaOperands mine;
  std::memcpy(mine.d, d, sizeof d);
  std::memcpy(mine.a, a, sizeof a);
  std::memcpy(mine.b, b, sizeof b);
  const Deposits all = meet(0xffffffffu, "mma", &mine, sizeof mine, multiply, here);
  std::memcpy(&mine, all[lane()], sizeof mine);
  std::memcpy(d, mine.d, sizeof d);
}

}  // namespace lowrank::cuda::emulate

#if defined(LOWRANK_UNDEFINED_SANITIZER)
bool lowrank::cuda::emulate::checks_alignment() { return false; }
#else
bool lowrank::cuda::emulate::checks_alignment() { return true; }

// ---- the compiler's checks of alignment, by the names of the undefined-behavior sanitizer, without its library

namespace {
struct TypeMismatch {
  const char* file;
  uint32_t line, column;
  const void* type;
  unsigned char log_alignment, kind;
};
}  // namespace
extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch* where, uintptr_t) {
  static char what[80];  // a string would be lost with the fiber's stack
  std::snprintf(what, sizeof what, "access to an address that is not aligned to %d", 1 << where->log_alignment);
  lowrank::cuda::emulate::fail(what, {where->file, static_cast<int>(where->line)});
}
#endif
