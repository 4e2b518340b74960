// The seam. Whoever implements this computes; everything above it plans, names and orders.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/memory.h"
#include "device/kernels.h"

namespace lowrank {

/// What plans need to know of a device, from shapes alone: a plan for a device is made where there is none.
class KernelSizes {
 public:
  virtual ~KernelSizes() = default;
  /// Bytes that the kernel may use while it runs; never less for larger shapes.
  virtual int64_t workspace(const Kernel& kernel) const = 0;
};

struct WeightRows {
  int weight;
  int64_t begin, end;
};

/// Rows of weights in memory for as long as it lives.
class Hold {
 public:
  virtual ~Hold() = default;
};

/// Memory of a device, which goes back when it dies.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual Ptr<std::byte> data() const = 0;
  virtual int64_t bytes() const = 0;
};

/// Room beside a device's memory, where activations wait for the backward pass. Offsets begin with pages.
class Stash {
 public:
  virtual ~Stash() = default;
  virtual void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) = 0;
  /// Complete for the kernels that are launched after it.
  virtual void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) = 0;
  /// Says that a range is fetched soon.
  virtual void will_fetch(int64_t offset, int64_t bytes) = 0;
};

/// Work is in the order of the calls, and may be done after a call returns: only `download` and `finish` wait.
class Device {
 public:
  virtual ~Device() = default;
  virtual const KernelSizes& sizes() const = 0;

  /// Rows of a weight that can be held at a time: all of them, but where weights come and go in slices.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows to memory; null where all of them always are.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) = 0;

  /// Room for the length of a call, which no category counts; its contents do not matter.
  virtual std::unique_ptr<DeviceMemory> scratch(int64_t bytes) = 0;
  /// Zeroed. Throws Error("OUT_OF_MEMORY").
  virtual std::unique_ptr<DeviceMemory> allocate(Category category, int64_t bytes) = 0;
  virtual void upload(Ptr<std::byte> to, const void* from, int64_t bytes) = 0;
  /// The bytes that lie there, for the host to read until the next call.
  /// @param what it is, in a word or two, for a device that counts
  virtual const std::byte* download(Ptr<std::byte> from, int64_t bytes, std::string_view what) = 0;
  virtual void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) = 0;
  virtual void finish() = 0;
  /// @param folder where it may lie
  virtual std::unique_ptr<Stash> stash(const std::string& folder, int64_t bytes) = 0;

  virtual void launch(const Kernel& kernel, Ptr<std::byte> workspace) = 0;
};

}  // namespace lowrank
