// A device's memory, for executions of kernels on the host: allocations full of NaN, with red zones around each.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "backends/cuda/emulate/fiber.h"

namespace lowrank::cuda {

class DeviceMemory {
 public:
  struct Range {
    std::byte* begin;
    int64_t bytes;
  };

  DeviceMemory() : room_(kRoom), owned_(true) {
    void* const at = mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<std::byte*>(at);
    end_ = begin_;
  }
  /// In memory of somebody else's.
  DeviceMemory(std::byte* room, size_t bytes) : begin_(room), end_(room), room_(bytes), owned_(false) {}
  ~DeviceMemory() {
    emulate::unpoison(begin_, static_cast<size_t>(end_ - begin_));
    if (owned_) munmap(begin_, room_);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Aligned to 256 bytes, as a driver aligns.
  std::byte* allocate(int64_t bytes) {
    const int64_t whole = (bytes + 255) / 256 * 256 + 2 * kRedZone;
    if (end_ + whole > begin_ + room_) throw std::bad_alloc();
    emulate::unpoison(end_, static_cast<size_t>(whole));
    std::memset(end_, kUntouched, static_cast<size_t>(whole));
    std::byte* const at = end_ + kRedZone;
    std::memset(at, 0xff, static_cast<size_t>(bytes));
    emulate::poison(end_, kRedZone);
    emulate::poison(at + bytes, static_cast<size_t>(whole - kRedZone - bytes));
    end_ += whole;
    ranges_.push_back({at, bytes});
    return at;
  }
  const std::vector<Range>& ranges() const { return ranges_; }

  /// True for an address of this memory, be it allocated or not.
  bool covers(const void* at) const {
    const auto* byte = static_cast<const std::byte*>(at);
    return byte >= begin_ && byte < begin_ + room_;
  }
  /// True if one allocation holds all of these bytes.
  bool holds(const void* at, int64_t bytes) const {
    const auto* byte = static_cast<const std::byte*>(at);
    size_t low = 0, high = ranges_.size();  // the last that begins at or before it
    while (low < high) {
      const size_t middle = (low + high) / 2;
      ranges_[middle].begin <= byte ? low = middle + 1 : high = middle;
    }
    return low > 0 && byte + bytes <= ranges_[low - 1].begin + ranges_[low - 1].bytes;
  }
  /// Number of the first allocation beside which something was written; -1 for none.
  int64_t overrun() {
    emulate::unpoison(begin_, static_cast<size_t>(end_ - begin_));
    int64_t found = -1;
    for (size_t i = ranges_.size(); i-- > 0;) {
      std::byte* const at = ranges_[i].begin;
      std::byte* const after = at + ranges_[i].bytes;
      std::byte* const next = i + 1 < ranges_.size() ? ranges_[i + 1].begin - kRedZone : end_;
      if (!untouched(at - kRedZone, at) || !untouched(after, next)) found = static_cast<int64_t>(i);
      emulate::poison(at - kRedZone, kRedZone);
      emulate::poison(after, static_cast<size_t>(next - after));
    }
    return found;
  }

 private:
  static constexpr size_t kRoom = size_t{4} << 30;
  static constexpr int64_t kRedZone = 256;
  static constexpr int kUntouched = 0xa5;

  static bool untouched(const std::byte* from, const std::byte* to) {
    for (; from < to; ++from)
      if (*from != std::byte{kUntouched}) return false;
    return true;
  }

  std::byte *begin_, *end_;
  size_t room_;
  bool owned_;
  std::vector<Range> ranges_;
};

}  // namespace lowrank::cuda
