// LOWRANK_CHECK=operands: holds every kernel to the operands that it names.
#pragma once

#include <span>
#include <vector>

#include "device/device.h"

namespace lowrank::cpu {

/// A device of the CPU's memory that launches every kernel again and again: with all memory spoiled that the kernel
/// does not name, and with each operand spoiled that it says it reads. Throws Error("INTERNAL") where it writes or
/// reads what it does not name, leaves a part of what it writes, or does not look at the ends of what it reads.
class OperandCheck final : public Device {
 public:
  using Memory = std::vector<std::span<std::byte>>;

  /// @param memory where operands lie; what is written lies nowhere else
  OperandCheck(Device& device, Memory memory);
  ~OperandCheck() override;

  const KernelSizes& sizes() const override { return device_.sizes(); }
  int64_t rows_at_once(int weight, int64_t rows) const override { return device_.rows_at_once(weight, rows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override { return device_.hold(rows); }
  std::unique_ptr<DeviceMemory> scratch(int64_t bytes) override { return device_.scratch(bytes); }
  std::unique_ptr<DeviceMemory> allocate(Category category, int64_t bytes) override {
    return device_.allocate(category, bytes);
  }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override { device_.upload(to, from, bytes); }
  const std::byte* download(Ptr<std::byte> from, int64_t bytes, std::string_view what) override {
    return device_.download(from, bytes, what);
  }
  void finish() override { device_.finish(); }
  std::unique_ptr<Stash> stash(const std::string& folder, int64_t bytes) override {
    return device_.stash(folder, bytes);
  }
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override { device_.copy(to, from, bytes); }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

 private:
  struct Copies;
  class Trial;
  Device& device_;
  const Memory memory_;
  const std::unique_ptr<Copies> copies_;  // of all memory
};

}  // namespace lowrank::cpu
