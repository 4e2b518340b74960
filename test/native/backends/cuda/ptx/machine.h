// A kernel in decoded form and the state of a block that runs it. A warp executes an instruction for all lanes that are
// at it together; lanes that went different ways are groups of their own and join again where they meet.
#pragma once

#include <cstring>
#include <optional>
#include <random>

#include "backends/cuda/ptx/ptx.h"
#include "backends/cuda/ptx/shadow.h"

namespace lowrank::test::ptx {

constexpr int kLanes = 32;
constexpr uint32_t kAllLanes = ~0u;
constexpr uint32_t kNone = ~0u;

// Generic addresses of what is not global memory: a tag in the top byte, an offset below.
constexpr uint64_t kSharedWindow = uint64_t{0x51} << 56;
constexpr uint64_t kLocalWindow = uint64_t{0x52} << 56;
constexpr uint64_t kParamWindow = uint64_t{0x53} << 56;
constexpr uint64_t kConstantWindow = uint64_t{0x54} << 56;

struct Block;
struct Warp;
struct Instruction;
using Handler = void (*)(Block&, Warp&, const Instruction&, uint32_t lanes);

enum class Kind : uint8_t { plain, branch, branch_table, exit, warp_sync, barrier };

struct Instruction {
  Handler run = nullptr;
  Kind kind = Kind::plain;
  bool guard_not = false;
  bool whole_warp = false;  // warp_sync that all lanes must execute, with no mask
  Space space = Space::generic;
  Space second_space = Space::generic;
  uint8_t bytes = 0;  // of an element in memory
  uint8_t count = 0;  // elements in memory, matrices
  uint8_t variant = 0;
  uint32_t guard = kNone;
  uint32_t mask = kNone;  // slot of a warp_sync's lanes
  uint32_t target = 0;    // of a branch
  int64_t offset = 0, second_offset = 0;
  std::array<uint32_t, 16> slots{};  // registers and constants, as bytes from the start of a warp's
  std::array<uint8_t, 16> widths{};  // bytes of each
  std::vector<uint32_t> targets;     // of a branch table
  int statement = 0;
};

/// Values that a warp's slots start with, after which come registers with random bits.
struct Constant {
  uint32_t slot;
  uint64_t bits;
  int bytes;
};

enum class Special : uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  laneid,
  warpid,
  nwarpid,
  lanemask_eq,
  lanemask_lt,
  lanemask_le,
  lanemask_gt,
  lanemask_ge,
  dynamic_smem_size,
  count
};

class Kernel {
 public:
  KernelText text;
  std::vector<Instruction> code;
  std::vector<Constant> constants;
  std::array<uint32_t, static_cast<size_t>(Special::count)> specials;  // slots, or kNone
  uint32_t register_bytes = 0;
  uint32_t first_register = 0;  // where random bits begin
  std::vector<std::byte> constant_bytes;
  const Memory* globals = nullptr;  // variables of the module
  Limits limits;
  // Where shared variables lie, from the least alignment that their declaration promises.
  struct Place {
    int64_t begin, bytes, align;
    bool dynamic;
  };
  std::vector<Place> shared;
  int64_t local_bytes = 0;
  const std::unordered_map<int, std::string>* files = nullptr;

  /// An instruction in words, with its line.
  std::string describe(uint32_t pc) const;
};

/// Lanes of a warp that are at the same instruction.
struct Group {
  enum class State : uint8_t { ready, at_warp_sync, at_barrier };
  uint32_t pc = 0;
  uint32_t lanes = 0;
  State state = State::ready;
};

/// A cp.async that was issued and not yet waited for.
struct Copy {
  uint64_t shared = 0, global = 0;
  uint8_t bytes = 0, filled = 0;  // all of it, and what comes from global memory
  bool late = false;
  uint32_t group = 0;
  uint32_t pc = 0;
};

struct Warp {
  int index = 0;
  uint32_t live = 0;  // lanes that have not ended
  uint32_t exists = 0;
  std::vector<Group> groups;
  std::byte* slots = nullptr;
  std::vector<std::byte> local;
  uint32_t epoch = 0;
  uint32_t pc = 0;  // of the instruction that runs
  std::array<std::vector<Copy>, kLanes> copies;
  std::array<uint32_t, kLanes> copy_groups{};

  template <class T>
  T* at(uint32_t slot) const {
    return reinterpret_cast<T*>(slots + slot);
  }
  uint32_t& predicate(uint32_t slot) const { return *at<uint32_t>(slot); }
};

/// One launch of a kernel.
struct Launch {
  const Kernel& kernel;
  Dimensions grid, block;
  int64_t shared_bytes;
  std::span<const std::byte> args;
  const Memory& memory;
  const Options& options;
  std::mt19937_64 random;
  Shadow global_shadow{};
  std::vector<Traffic> traffic{};
  Report report{};
};

struct Block {
  explicit Block(Launch& of) : launch(of), kernel(of.kernel) {}

  Launch& launch;
  const Kernel& kernel;
  Dimensions index{};
  uint32_t sequence = 0;  // among the blocks that ran
  uint32_t epoch = 0;
  int64_t threads = 0;
  std::vector<Warp> warps{};
  std::vector<std::byte> shared{};
  std::vector<uint8_t> shared_valid{};
  Shadow shared_shadow{};
  Memory::Allocation last{};  // that was touched

  /// Address of [address, address + bytes) of a lane in host memory, after every check.
  std::byte* touch(Warp& warp, int lane, Space space, uint64_t address, int bytes, bool write);
  /// The same without the check for races; `space` becomes what it was found to be.
  std::byte* resolve(Warp& warp, int lane, Space& space, uint64_t& address, int bytes, bool write);
  Access access(const Warp& warp, int lane) const {
    return {sequence, static_cast<uint32_t>(warp.index * kLanes + lane), epoch, warp.epoch, warp.pc};
  }
  void begin_copy(Warp& warp, int lane, Copy copy);
  void finish_copies(Warp& warp, int lane, uint32_t before_group);
  /// Counts what lanes access together.
  void note(const Warp& warp, Space space, const uint64_t* addresses, uint32_t lanes, int bytes, bool store);

  [[noreturn]] void fault(const char* kind, const Warp& warp, int lane, const std::string& what) const;

  /// To the end of all warps, from registers and shared memory of arbitrary bits.
  void run();

 private:
  void start();
  void run_warp(Warp& warp);
  size_t choose(Warp& warp);
  bool join(Warp& warp, size_t& current);
  bool complete(Warp& warp, const Instruction& instruction, uint32_t lanes);
  void release_barrier();
  [[noreturn]] void deadlock();

  std::vector<std::byte> registers_;
};

/// Runs `body(lane)` for the lanes of a mask; for all of a warp as a loop that compilers turn into vector code.
template <class Body>
inline void each(uint32_t lanes, Body body) {
  if (lanes == kAllLanes) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC ivdep
#endif
    for (int lane = 0; lane < kLanes; ++lane) body(lane);
  } else {
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) body(__builtin_ctz(rest));
  }
}

}  // namespace lowrank::test::ptx
