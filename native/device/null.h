// A device that neither allocates nor computes: used to plan steps, and to count their
// work.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/boundary.h"
#include "device/device.h"

namespace lowrank {

class NullDevice final : public Device, public Memory {
 public:
  /// A base weight in its storage format.
  struct HeldWeight {
    int64_t rows = 0;
    int64_t bytes = 0;
  };
  /// Work so far.
  struct Counts {
    std::map<std::string_view, KernelCounts> kernels;            // by name
    std::map<std::string, int64_t> downloaded;                   // bytes by description
    int64_t uploaded = 0, copied = 0, stashed = 0, fetched = 0;  // bytes
  };

  /// @param weights by index; if empty, bytes of the base are not counted
  explicit NullDevice(const KernelSizes& sizes, std::vector<HeldWeight> weights = {})
      : sizes_(sizes), weights_(std::move(weights)) {}

  const KernelSizes& sizes() const override { return sizes_; }
  Memory& memory() override { return *this; }
  /// Weights need not be loaded.
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override;
  void use(const PlacedWeights*) override {}
  int64_t rows_at_once(int, int64_t rows) const override { return rows; }
  std::unique_ptr<Hold> hold(const WeightRows&) override { return nullptr; }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

  std::unique_ptr<Allocation> scratch(int64_t bytes) override;
  std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) override;
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override;
  /// Returns `number` for every value.
  void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view what) override;
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override;
  std::byte* shared(Ptr<std::byte>) override { return nullptr; }
  std::unique_ptr<Stash> stash(Category category, const std::string& folder, int64_t bytes) override;

  Counts counts;
  float number = 0;                       // value of every fp32 number read by the host
  std::map<Category, int64_t> allocated;  // bytes

 private:
  const KernelSizes& sizes_;
  const std::vector<HeldWeight> weights_;
};

}  // namespace lowrank
