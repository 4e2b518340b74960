// The CPU as a device: kernels as values become calls of the level's table.
#pragma once

#include <functional>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/memory.h"
#include "core/context.h"
#include "device/device.h"

namespace lowrank::cpu {

/// Workspace of the CPU's kernels, for a number of threads and at any level.
class CpuSizes final : public KernelSizes {
 public:
  /// Throws Error("CONFIG") for a number that is none.
  explicit CpuSizes(int threads);
  int threads() const override { return threads_; }
  bool multiplies_by_row(int64_t depth, int64_t ranks) const override;
  int64_t workspace(const Kernel& kernel) const override;

 private:
  int threads_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(Pool& pool, const Kernels& kernels, const CpuSizes& sizes)
      : pool_(pool), kernels_(kernels), sizes_(sizes) {}

  const CpuSizes& sizes() const override { return sizes_; }
  Memory& memory() override { return cpu::memory(); }
  const Kernels& kernels() const { return kernels_; }
  /// Places weights, which are in host memory already.
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override;
  void use(const PlacedWeights* weights) override;
  int64_t rows_at_once(int weight, int64_t rows) const override {
    return weight < 0 ? rows : weights_->rows_at_once(weight, rows);
  }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override {
    return rows.weight < 0 ? nullptr : weights_->hold(rows);
  }
  void expect(std::span<const WeightRows> order) override {
    if (weights_ != nullptr) weights_->expect(order);
  }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;
  /// Device of the level `reference`.
  std::unique_ptr<Device> reference() override;
  std::unique_ptr<Device> operand_check(const std::vector<const Allocation*>& memory) override;

 private:
  Pool& pool_;
  const Kernels& kernels_;
  const CpuSizes sizes_;
  const WeightStore* weights_ = nullptr;  // that kernels name
};

/// The device of a job: jobs are the CPU's.
inline CpuDevice& device_of(const Context& context) { return static_cast<CpuDevice&>(context.device); }

}  // namespace lowrank::cpu
