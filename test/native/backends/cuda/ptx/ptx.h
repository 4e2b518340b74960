// Executes PTX, as compilers made it, on the CPU: kernels run on host memory, and whatever a card would leave undefined
// ends the launch with a Fault. What is not known is refused when a kernel is first launched, never guessed.
// Source of the semantics: NVIDIA's "Parallel Thread Execution ISA".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/ptx/text.h"

namespace lowrank::test::ptx {

/// An act of a kernel without a defined result; `kind` is one of the names below.
struct Fault : std::runtime_error {
  Fault(const char* kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  std::string kind;  // "bounds", "alignment", "race", "copy in flight", "deadlock", "divergence", "launch", "trap"
};

/// Allocations that a kernel may touch; host addresses are device addresses. Leave bytes between them.
class Memory {
 public:
  struct Allocation {
    uint64_t begin = 0, end = 0;
    bool writable = true;
  };
  void add(const void* begin, int64_t bytes, bool writable = true);
  void remove(const void* begin);
  /// The allocation that holds all of [address, address + bytes), or null.
  const Allocation* find(uint64_t address, int64_t bytes) const;
  /// The nearest allocation in words, for messages.
  std::string describe(uint64_t address) const;

 private:
  std::map<uint64_t, Allocation> allocations_;  // by begin
};

struct Dimensions {
  int64_t x = 1, y = 1, z = 1;
};

enum class Order : uint8_t { forward, reverse, random };

/// Where mma.sync.m16n8k16 has its elements: the row and column of each register's halves, by lane.
struct Fragments {
  struct Place {
    uint8_t row, column;
  };
  std::array<std::array<Place, 8>, 32> a;  // of 16 x 16; two to a register
  std::array<std::array<Place, 4>, 32> b;  // of 16 x 8 (k, n)
  std::array<std::array<Place, 4>, 32> d;  // of 16 x 8
  static const Fragments& standard();
};

struct Options {
  Order threads = Order::forward;  // of warps, and of lanes that went different ways
  Order blocks = Order::forward;
  bool late_copies = true;  // cp.async reads and writes when it is waited for, or at once; the random order has both
  bool races = true;
  bool traffic = false;
  uint64_t seed = 1;
  std::vector<Dimensions> only;  // blocks to run; all where it is empty
  const Fragments* fragments = &Fragments::standard();
};

/// Bytes that an instruction moved, summed over warps. A wavefront is a pass over the 32 banks of shared memory, a
/// sector 32 bytes of global memory; `least` is what the same bytes need at best.
struct Traffic {
  std::string instruction;  // with its line
  int64_t requests = 0;
  int64_t wavefronts = 0, least_wavefronts = 0;
  int64_t sectors = 0, least_sectors = 0;
  bool stores_shared = false, stores_global = false;
};

struct Report {
  int64_t instructions = 0;  // of threads
  int64_t warp_instructions = 0;
  int64_t local_accesses = 0;    // of warps, to memory that spills or indexed arrays need
  std::vector<Traffic> traffic;  // in the order of the kernel
};

class Kernel;

class Module {
 public:
  /// Throws Unsupported.
  explicit Module(std::string_view text);
  ~Module();
  Module(Module&&) noexcept;
  Module& operator=(Module&&) noexcept;

  std::vector<std::string> kernels() const;
  bool has(std::string_view kernel) const;
  /// Decoded when it is first asked for. Throws Unsupported for an instruction that is not known.
  const Kernel& kernel(std::string_view name) const;

 private:
  struct Contents;
  std::unique_ptr<Contents> contents_;
};

/// Limits of a kernel's launches, as its text has them.
struct Limits {
  int64_t threads = 1024;  // most of a block
  int64_t param_bytes = 0;
  int64_t shared_bytes = 0;  // that it declares
  bool dynamic_shared = false;
};
const Limits& limits(const Kernel& kernel);

/// Runs a kernel to its end. `args` holds the parameters as the driver takes them. Throws Fault.
Report launch(const Kernel& kernel, Dimensions grid, Dimensions block, int64_t shared_bytes,
              std::span<const std::byte> args, const Memory& memory, const Options& options = {});

}  // namespace lowrank::test::ptx
