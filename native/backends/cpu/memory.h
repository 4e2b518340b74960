// The memory of the process as that of a device.
#pragma once

#include <memory>
#include <new>

#include "device/memory.h"

namespace lowrank::cpu {

/// Uncounted room, its contents as they come.
class Scratch final : public Allocation {
 public:
  explicit Scratch(int64_t bytes);
  Ptr<std::byte> data() const override;
  int64_t bytes() const override { return bytes_; }
  void clear() override;

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(std::byte* at) const { ::operator delete(at, kLine); }
  };
  int64_t bytes_;
  std::unique_ptr<std::byte, Free> room_;
};

/// Never destroyed.
Memory& memory();

}  // namespace lowrank::cpu
