// The shared memory of a block, emulated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "backends/cuda/emulate/fiber.h"

namespace lowrank::cuda::emulate {

class SharedMemory {
 public:
  /// Nothing is placed, and all is NaN.
  void clear(int64_t bytes) {
    const size_t room = static_cast<size_t>(bytes) + kSlack;
    if (room > room_) {
      memory_.reset(new (std::align_val_t{4096}) std::byte[room]);
      room_ = room;
      used_ = room;
    }
    unpoison(memory_.get(), room_);
    std::memset(memory_.get(), 0xff, used_);
    poison(memory_.get(), room_);
    used_ = 0;
    ranges_.clear();
  }
  /// Null where there is no room. The address has the alignment, and none that is larger: kernels must not count on
  /// one.
  void* place(int64_t bytes, int64_t alignment) {
    const auto step = static_cast<size_t>(alignment);
    size_t at = (used_ + kGap + 2 * step - 1) / (2 * step) * (2 * step) + step;
    if (at + static_cast<size_t>(bytes) + kGap > room_) return nullptr;
    used_ = at + static_cast<size_t>(bytes) + kGap;
    std::byte* const result = memory_.get() + at;
    unpoison(result, static_cast<size_t>(bytes));
    ranges_.push_back({result, bytes});
    return result;
  }
  /// True for an address of this memory, be it in an array or between two.
  bool covers(const void* at) const {
    const auto* byte = static_cast<const std::byte*>(at);
    return byte >= memory_.get() && byte < memory_.get() + room_;
  }
  /// True if one array holds all of these bytes.
  bool holds(const void* at, int64_t bytes = 1) const {
    const auto* byte = static_cast<const std::byte*>(at);
    for (const auto& [begin, count] : ranges_)
      if (byte >= begin && byte + bytes <= begin + count) return true;
    return false;
  }

 private:
  static constexpr size_t kGap = 64, kSlack = 64 * 1024;  // of gaps
  struct Delete {
    void operator()(std::byte* at) const { ::operator delete[](at, std::align_val_t{4096}); }
  };
  struct Range {
    std::byte* begin;
    int64_t bytes;
  };

  std::unique_ptr<std::byte[], Delete> memory_;
  size_t room_ = 0, used_ = 0;
  std::vector<Range> ranges_;
};

}  // namespace lowrank::cuda::emulate
