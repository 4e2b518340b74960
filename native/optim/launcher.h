// The way from the optimizer to its device: kernels with the room that they need, and where an adapter's arrays lie.
#pragma once

#include <memory>

#include "adapters/adapter.h"
#include "device/device.h"

namespace lowrank {

/// Launches kernels one after the other, which share one workspace.
class Launcher {
 public:
  explicit Launcher(Device& device) : device_(device) {}
  Device& device() const { return device_; }

  void operator()(const Kernel& kernel) {
    const int64_t bytes = device_.sizes().workspace(kernel);
    if (bytes > 0 && (room_ == nullptr || room_->bytes() < bytes)) {
      room_.reset();
      room_ = device_.scratch(bytes);
    }
    device_.launch(kernel, room_ == nullptr ? Ptr<std::byte>() : room_->data());
  }

 private:
  Device& device_;
  std::unique_ptr<DeviceMemory> room_;
};

inline Ptr<float> address(const Adapter& adapter, int parameter, AdapterArray array = AdapterArray::value) {
  return address_of(adapter.data(parameter, array));
}

}  // namespace lowrank
