// Memory of a device: handed out as addresses, filled and read by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/memory.h"
#include "device/ptr.h"

namespace lowrank {

/// A stretch of a device's memory, which goes back when it dies.
class Allocation {
 public:
  virtual ~Allocation() = default;
  /// Null where there are no bytes.
  virtual Ptr<std::byte> data() const = 0;
  virtual int64_t bytes() const = 0;
  /// All zero again.
  virtual void clear() = 0;
};

/// Room beside a device's memory: for activations that wait for the backward pass, and for optimizer state. All zero at
/// first. One thread at a time, which need not be the one that launches kernels.
class Stash {
 public:
  virtual ~Stash() = default;
  virtual void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) = 0;
  /// Complete for the kernels that are launched after it.
  virtual void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) = 0;
  /// Says that a range is fetched soon.
  virtual void will_fetch(int64_t offset, int64_t bytes) = 0;
  /// Waits until all that was put is there.
  virtual void settle() = 0;
  // The same for bytes of the host.
  virtual void read(int64_t offset, void* to, int64_t bytes) = 0;
  virtual void write(int64_t offset, const void* from, int64_t bytes) = 0;
};

/// Outlives what is allocated in it. Any thread may call it.
class Memory {
 public:
  virtual ~Memory() = default;
  /// Zeroed. Throws Error("OUT_OF_MEMORY").
  virtual std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) = 0;
  /// Room for the length of a call, which no category counts; its contents do not matter.
  virtual std::unique_ptr<Allocation> scratch(int64_t bytes) = 0;
  /// The host's bytes may change when it returns.
  virtual void upload(Ptr<std::byte> to, const void* from, int64_t bytes) = 0;
  /// Complete when it returns.
  /// @param what it is, in a word or two, for a device that counts
  virtual void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view what) = 0;
  virtual void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) = 0;
  /// Pointer by which the host reads an address, for a device that shares its memory with the host; else null. For
  /// HostView alone: the one place outside of a device that follows an address.
  virtual std::byte* shared(Ptr<std::byte> at) = 0;
  /// Throws Error("WRITE") where it cannot be made.
  /// @param category of what is put there
  /// @param folder where it may lie
  virtual std::unique_ptr<Stash> stash(Category category, const std::string& folder, int64_t bytes) = 0;
  /// Memory of the host that the device copies from beside its work; null where the system refuses it, and on a device
  /// that has no use for it.
  virtual std::shared_ptr<std::byte> pinned(Category /*category*/, int64_t /*bytes*/) { return nullptr; }
};

}  // namespace lowrank
