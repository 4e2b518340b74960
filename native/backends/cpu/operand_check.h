// LOWRANK_CHECK=operands: holds every kernel to the operands that it names.
#pragma once

#include <span>
#include <vector>

#include "device/wrapped.h"

namespace lowrank::cpu {

/// A device of the CPU's memory that launches every kernel again and again: with all memory spoiled that the kernel
/// does not name, and with each operand spoiled that it says it reads. Throws Error("INTERNAL") where it writes or
/// reads what it does not name, leaves a part of what it writes, or does not look at the ends of what it reads.
class OperandCheck final : public WrappedDevice {
 public:
  using Spans = std::vector<std::span<std::byte>>;

  /// @param memory where operands lie; what is written lies nowhere else but in what is allocated through this device
  OperandCheck(Device& device, Spans memory);
  ~OperandCheck() override;

  Memory& memory() override;
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;

 private:
  struct Copies;
  class Trial;
  class Watched;
  Spans spans_;
  const std::unique_ptr<Copies> copies_;  // of all memory
  const std::unique_ptr<Watched> watched_;
};

}  // namespace lowrank::cpu
