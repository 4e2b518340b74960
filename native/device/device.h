// The seam. Whoever implements this computes; everything above it plans, names and orders.
#pragma once

#include <memory>

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

class Device {
 public:
  virtual ~Device() = default;
  virtual const KernelSizes& sizes() const = 0;

  /// Rows of a weight that can be held at a time: all of them, but where weights come and go in slices.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows to memory; null where all of them always are.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) = 0;

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
  void copy(Ptr<std::byte>, Ptr<std::byte>, int64_t) override {}
  void launch(const Kernel&, Ptr<std::byte>) override {}

 private:
  const KernelSizes& sizes_;
};

}  // namespace lowrank
