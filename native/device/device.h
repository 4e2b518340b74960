// The seam. Whoever implements this computes; everything above it plans, names and orders.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "device/kernels.h"
#include "device/memory.h"
#include "device/weight_store.h"

namespace lowrank {

/// Workspace sizes of a device, from shapes alone, so a plan for a device can be made without one.
class KernelSizes {
 public:
  virtual ~KernelSizes() = default;
  /// Bytes that the kernel may use while it runs; never less for larger shapes.
  virtual int64_t workspace(const Kernel& kernel) const = 0;
  /// Threads that kernels have room for.
  virtual int threads() const { return 1; }
};

/// Weights of a model where a device's kernels find them, which name them by their number in the graph.
class PlacedWeights {
 public:
  virtual ~PlacedWeights() = default;
  /// The numbers of a vector, which are fp32 on every device.
  virtual Ptr<float> vector(int weight) const = 0;
};

/// Work is in the order of the calls, those of its memory included, and may be done after a call returns: only downloads
/// wait.
class Device {
 public:
  virtual ~Device() = default;
  virtual const KernelSizes& sizes() const = 0;
  /// May outlive the device.
  virtual Memory& memory() = 0;

  /// Places weights, which stay for as long as what is returned. Throws Error("CONFIG") while some are missing.
  virtual std::unique_ptr<PlacedWeights> place(const WeightStore& weights) = 0;
  /// Sets the weights that kernels name from now on.
  virtual void use(const PlacedWeights* weights) = 0;
  /// Rows of a weight that can be held at a time: all of them, but where weights come and go in slices.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows to memory; null where all of them always are.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) = 0;
  /// Order in which rows of the weights in use are held from now on; then it begins again.
  virtual void expect(std::span<const WeightRows> /*order*/) {}

  virtual void launch(const Kernel& kernel, Ptr<std::byte> workspace) = 0;
  /// Calls `body`, which launches the same as at the last call with the key, but where something has changed. A device may
  /// begin with it when the call ends, and prepare to launch all of it at once.
  virtual void repeat(const void* /*key*/, const std::function<void()>& body) { body(); }

  // For LOWRANK_CHECK: devices over the same memory and weights, for as long as this one lives; null where there are none.
  /// Computes by the simplest kernels.
  virtual std::unique_ptr<Device> reference() { return nullptr; }
  /// Holds every kernel to the operands that it names.
  /// @param memory where operands lie; what is written lies nowhere else
  virtual std::unique_ptr<Device> operand_check(const std::vector<const Allocation*>& /*memory*/) { return nullptr; }
};

}  // namespace lowrank
