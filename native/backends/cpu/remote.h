// The CPU's reference kernels on the memory of another device, for LOWRANK_CHECK.
#pragma once

#include <memory>

#include "backends/cpu/device.h"
#include "device/wrapped.h"

namespace lowrank::cpu {

/// A device over the memory of another: what a kernel touches is copied to the host, computed there, and copied back.
class Remote final : public WrappedDevice {
 public:
  /// @param weights those that kernels name; null where they name none
  Remote(Device& of, const WeightStore* weights);

  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

 private:
  Pool pool_;
  CpuDevice cpu_;
  std::unique_ptr<PlacedWeights> weights_;
};

}  // namespace lowrank::cpu
