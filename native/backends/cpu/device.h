// The CPU as a device: kernels as values become calls of the level's table. The only place that follows a Ptr.
#pragma once

#include <functional>
#include <vector>

#include "backends/cpu/kernels.h"
#include "core/context.h"
#include "device/device.h"

namespace lowrank::cpu {

/// Workspace of the CPU's kernels, for a number of threads and at any level.
class CpuSizes final : public KernelSizes {
 public:
  /// Throws Error("CONFIG") for a number that is none.
  explicit CpuSizes(int threads);
  int threads() const { return threads_; }
  int64_t workspace(const Kernel& kernel) const override;

 private:
  int threads_;
};

/// Where the base's weights lie, and how they come to memory.
class WeightStore {
 public:
  virtual ~WeightStore() = default;
  virtual WeightView view(int weight) const = 0;
  virtual int64_t rows_at_once(int weight, int64_t rows) const = 0;
  virtual std::unique_ptr<Hold> hold(const WeightRows& rows) const = 0;
  /// Copies rows of a table, `view`, to `out`, as many at a time as memory has room for.
  virtual void decode_rows(Pool& pool, const OpKernels& ops, int weight, const WeightView& view,
                           std::span<const int32_t> ids, const Matrix& out) const = 0;
};

class CpuDevice final : public Device {
 public:
  /// @param weights of the base; null where no kernel names one
  CpuDevice(Pool& pool, const Kernels& kernels, const CpuSizes& sizes, const WeightStore* weights = nullptr)
      : pool_(pool), kernels_(kernels), sizes_(sizes), weights_(weights) {}

  const CpuSizes& sizes() const override { return sizes_; }
  const Kernels& kernels() const { return kernels_; }
  int64_t rows_at_once(int weight, int64_t rows) const override {
    return weight < 0 ? rows : weights_->rows_at_once(weight, rows);
  }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override {
    return rows.weight < 0 ? nullptr : weights_->hold(rows);
  }
  std::unique_ptr<DeviceMemory> scratch(int64_t bytes) override;
  std::unique_ptr<DeviceMemory> allocate(Category category, int64_t bytes) override;
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override;
  /// The memory itself.
  const std::byte* download(Ptr<std::byte> from, int64_t bytes, std::string_view what) override;
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override;
  void finish() override {}
  /// A file.
  std::unique_ptr<Stash> stash(const std::string& folder, int64_t bytes) override;
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

 private:
  struct Launch;

  Pool& pool_;
  const Kernels& kernels_;
  const CpuSizes sizes_;
  const WeightStore* const weights_;
  std::vector<Segment> segments_;  // of the product that runs
};

/// The device of a job: jobs are the CPU's.
inline CpuDevice& device_of(const Context& context) { return static_cast<CpuDevice&>(context.device); }

/// The memory of an address, and back.
template <class T>
T* host(Ptr<T> at) {
  return reinterpret_cast<T*>(at.address());
}
using lowrank::address_of;

}  // namespace lowrank::cpu
