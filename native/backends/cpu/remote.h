// The CPU's reference kernels on the memory of another device, for LOWRANK_CHECK.
#pragma once

#include <memory>

#include "backends/cpu/device.h"

namespace lowrank::cpu {

/// A device over the memory of another: what a kernel touches is copied to the host, computed there, and copied back.
class Remote final : public Device {
 public:
  /// @param weights those that kernels name; null where they name none
  Remote(Device& of, const WeightStore* weights);

  const KernelSizes& sizes() const override { return of_.sizes(); }
  Memory& memory() override { return of_.memory(); }
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override { return of_.place(weights); }
  void use(const PlacedWeights* weights) override { of_.use(weights); }
  int64_t rows_at_once(int weight, int64_t rows) const override { return of_.rows_at_once(weight, rows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override { return of_.hold(rows); }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

 private:
  Device& of_;
  Pool pool_;
  CpuDevice cpu_;
  std::unique_ptr<PlacedWeights> weights_;
};

}  // namespace lowrank::cpu
