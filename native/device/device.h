// The seam. Whoever implements this computes; everything above it plans, names and orders.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

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
  /// The bytes that lie there, for the host to read until the next call.
  /// @param what it is, in a word or two, for a device that counts
  virtual const std::byte* download(Ptr<std::byte> from, int64_t bytes, std::string_view what) = 0;
  virtual void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) = 0;
  virtual void launch(const Kernel& kernel, Ptr<std::byte> workspace) = 0;
};

/// A device that computes nothing: what steps run on while they are planned.
class NullDevice final : public Device {
 public:
  explicit NullDevice(const KernelSizes& sizes) : sizes_(sizes) {}
  const KernelSizes& sizes() const override { return sizes_; }
  int64_t rows_at_once(int, int64_t rows) const override { return rows; }
  std::unique_ptr<Hold> hold(const WeightRows&) override { return nullptr; }
  std::unique_ptr<DeviceMemory> scratch(int64_t bytes) override {
    struct Nowhere final : DeviceMemory {
      explicit Nowhere(int64_t size) : size(size) {}
      Ptr<std::byte> data() const override { return Ptr<std::byte>(kNowhere); }
      int64_t bytes() const override { return size; }
      int64_t size;
    };
    return std::make_unique<Nowhere>(bytes);
  }
  const std::byte* download(Ptr<std::byte>, int64_t bytes, std::string_view) override {
    zeros_.assign(static_cast<size_t>(bytes), std::byte{0});
    return zeros_.data();
  }
  void copy(Ptr<std::byte>, Ptr<std::byte>, int64_t) override {}
  void launch(const Kernel&, Ptr<std::byte>) override {}

 private:
  const KernelSizes& sizes_;
  std::vector<std::byte> zeros_;
};

}  // namespace lowrank
