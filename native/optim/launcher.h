// Launches the optimizer's kernels on its device, with the workspace they need.
#pragma once

#include <memory>

#include "device/device.h"

namespace lowrank {

/// Launches kernels sequentially, sharing one workspace.
class Launcher {
 public:
  explicit Launcher(Device& device) : device_(device) {}
  Device& device() const { return device_; }

  void operator()(const Kernel& kernel) {
    const int64_t bytes = device_.sizes().workspace(kernel);
    if (bytes > 0 && (room_ == nullptr || room_->bytes() < bytes)) {
      room_.reset();
      room_ = device_.memory().scratch(bytes);
    }
    device_.launch(kernel, room_ == nullptr ? Ptr<std::byte>() : room_->data());
  }

 private:
  Device& device_;
  std::unique_ptr<Allocation> room_;
};

}  // namespace lowrank
