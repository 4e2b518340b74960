// The backend interface. Implementations compute; everything above plans, names, and orders.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "device/memory.h"
#include "device/weight_store.h"

namespace lowrank {

/// Workspace sizes of a device, from shapes alone, so plans can be made without the device.
class KernelSizes {
 public:
  virtual ~KernelSizes() = default;
  /// Maximum workspace of a running kernel, in bytes; never less for larger shapes.
  virtual int64_t workspace(const Kernel& kernel) const = 0;
  /// True if products are faster where their operands lie beside each other in the same rows.
  virtual bool joins_operands() const { return false; }
  /// True if GemmNtByRow takes a reduction over `depth` and so many ranks of the parts of each row.
  virtual bool multiplies_by_row(int64_t /*depth*/, int64_t /*ranks*/) const { return true; }
  /// Number of threads that kernels have workspace for.
  virtual int threads() const { return 1; }
};

/// Weights of a model placed for a device's kernels, which refer to them by their index in the graph.
class PlacedWeights {
 public:
  virtual ~PlacedWeights() = default;
  /// The values of a vector, which are fp32 on every device.
  virtual Ptr<float> vector(int weight) const = 0;
};

/// Work runs in call order, including that of its memory, and may complete after a call returns: only downloads
/// wait.
class Device {
 public:
  virtual ~Device() = default;
  virtual const KernelSizes& sizes() const = 0;
  /// May outlive the device.
  virtual Memory& memory() = 0;

  /// Places weights, for the lifetime of the returned object. Throws Error("CONFIG") while some are missing.
  virtual std::unique_ptr<PlacedWeights> place(const WeightStore& weights) = 0;
  /// Sets the weights that subsequent kernels refer to.
  virtual void use(const PlacedWeights* weights) = 0;
  /// Maximum rows of a weight held at a time: all of them, unless weights are streamed in slices.
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  /// Brings rows into memory; null if all of them are always there.
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) = 0;
  /// Sets the order in which rows of the current weights will be held, repeating from the start.
  virtual void expect(std::span<const WeightRows> /*order*/) {}

  virtual void launch(const Kernel& kernel, Ptr<std::byte> workspace) = 0;
  /// Calls `body`, which launches the same work as the last call with the key unless something has changed. A device
  /// may defer the work until the call ends, and prepare to launch it all at once.
  virtual void repeat(const void* /*key*/, const std::function<void()>& body) { body(); }

  // For LOWRANK_CHECK: devices over the same memory and weights, valid while this one lives; null if unsupported.
  /// Computes with the simplest kernels.
  virtual std::unique_ptr<Device> reference() { return nullptr; }
  /// Verifies that every kernel accesses only the operands it declares.
  /// @param memory that contains the operands; all writes are in it
  virtual std::unique_ptr<Device> operand_check(const std::vector<const Allocation*>& /*memory*/) { return nullptr; }
};

}  // namespace lowrank
