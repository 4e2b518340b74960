// Memory of a device, accessed by address through explicit copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/memory.h"
#include "kernels/ptr.h"

namespace lowrank {

/// A range of device memory, freed on destruction.
class Allocation {
 public:
  virtual ~Allocation() = default;
  /// Null if empty.
  virtual Ptr<std::byte> data() const = 0;
  virtual int64_t bytes() const = 0;
  /// Zeroes it.
  virtual void clear() = 0;
};

/// Storage outside device memory, for activations until the backward pass and for optimizer state. Initially zero. Used
/// by one thread at a time, which need not be the one that launches kernels.
class Stash {
 public:
  virtual ~Stash() = default;
  virtual void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) = 0;
  /// Completes before kernels launched after it.
  virtual void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) = 0;
  /// Announces that a range will be fetched soon.
  virtual void will_fetch(int64_t offset, int64_t bytes) = 0;
  /// Waits until all writes have completed.
  virtual void settle() = 0;
  // The same for host memory.
  virtual void read(int64_t offset, void* to, int64_t bytes) = 0;
  virtual void write(int64_t offset, const void* from, int64_t bytes) = 0;
};

/// Must outlive its allocations. Thread-safe.
class Memory {
 public:
  virtual ~Memory() = default;
  /// Zeroed. Throws Error("OUT_OF_MEMORY").
  virtual std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) = 0;
  /// Temporary memory, not counted in any category, with unspecified contents.
  virtual std::unique_ptr<Allocation> scratch(int64_t bytes) = 0;
  /// The host's bytes may change once it returns.
  virtual void upload(Ptr<std::byte> to, const void* from, int64_t bytes) = 0;
  /// Complete when it returns.
  /// @param what a short description of the data, for a device that counts
  virtual void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view what) = 0;
  virtual void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) = 0;
  /// Host pointer for an address, if the device shares its memory with the host; else null. Only for HostView: the one
  /// place outside a device that dereferences an address.
  virtual std::byte* shared(Ptr<std::byte> at) = 0;
  /// Throws Error("WRITE") if it cannot be created.
  /// @param category of the data
  /// @param folder for its file, if any
  virtual std::unique_ptr<Stash> stash(Category category, const std::string& folder, int64_t bytes) = 0;
  /// Host memory from which the device can copy while it computes; null if the system refuses it, or on a device that
  /// has no use for it.
  virtual std::shared_ptr<std::byte> pinned(Category /*category*/, int64_t /*bytes*/) { return nullptr; }
};

}  // namespace lowrank
