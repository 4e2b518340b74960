// Stacks of their own for the threads of a block, and the change between them.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define LOWRANK_ASAN 1
#else
#define LOWRANK_ASAN 0
#endif

namespace lowrank::cuda::emulate {

inline void poison([[maybe_unused]] const void* at, [[maybe_unused]] size_t bytes) {
#if LOWRANK_ASAN
  __asan_poison_memory_region(at, bytes);
#endif
}
inline void unpoison([[maybe_unused]] const void* at, [[maybe_unused]] size_t bytes) {
#if LOWRANK_ASAN
  __asan_unpoison_memory_region(at, bytes);
#endif
}

/// Stacks with a page between two that no one may touch.
class Stacks {
 public:
  static constexpr size_t kBytes = 128 * 1024, kGuard = 4096;
  ~Stacks();
  /// Forgets what lay on them.
  void reserve(size_t count);
  std::byte* at(size_t i) const { return begin_ + i * kBytes + kGuard; }
  static constexpr size_t kUsable = kBytes - kGuard;

 private:
  void release();
  std::byte* begin_ = nullptr;
  size_t count_ = 0;
};

/// A stack that runs, or waits to go on.
class Fiber {
 public:
  /// @param stack of Stacks::kUsable bytes
  void start(std::byte* stack, void (*entry)());
  /// From the thread's own stack: runs this one until it calls leave().
  void enter();
  /// From this one, back to where it was entered.
  /// @param for_good it is never entered again
  void leave(bool for_good = false);
  /// First words of `entry`.
  static void arrived();

 private:
  void* stack_pointer_ = nullptr;
  std::byte* stack_ = nullptr;
  void* fake_ = nullptr;
};

}  // namespace lowrank::cuda::emulate
