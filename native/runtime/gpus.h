// The NVIDIA GPUs of this machine as devices of the engine: detected on demand, and kept open from first use until the
// process exits.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/device.h"
#include "backends/cuda/driver.h"
#include "backends/cuda/pack.h"

namespace lowrank {

/// CUDA on this machine.
struct CudaInfo {
  bool available = false;  // true if there is a usable GPU
  int version = 0;         // CUDA version supported by the driver, such as 12080; 0 without a driver
  std::vector<cuda::FoundCard> cards;
  std::vector<std::string> reasons;  // why GPUs, or CUDA as a whole, cannot be used
};

class Gpus {
 public:
  /// @param path of the kernel pack, unless LOWRANK_CUDA_PACK is set
  void set_pack(const std::string& path);
  /// The path of the kernel pack, and its compressed images that a GPU needs and has not been given. Throws as `open`.
  std::pair<std::string, std::vector<cuda::Pack::Stored>> compressed(const std::string& name);
  /// Gives them, inflated, before the GPU is opened; threads that come first or last give the same.
  void give(cuda::Inflated inflated);
  CudaInfo info();
  /// The device named "cuda:N". Throws Error("DEVICE") with the reasons if it cannot be used.
  Device& open(const std::string& name);
  /// The open device that owns the memory; null if none.
  Device* with(const Memory& memory);
  /// Connects it with the GPUs of other ranks. Throws as `open` and as NcclLink.
  std::unique_ptr<Link> link(const std::string& name, const cuda::NcclLink::Place& place,
                             const std::function<bool()>& given_up);
  /// Properties of the named GPU. Throws as `open`.
  cuda::Card card(const std::string& name);

 private:
  CudaInfo look();
  cuda::CudaDevice& opened(const std::string& name);
  const cuda::FoundCard& find(const CudaInfo& info, const std::string& name) const;
  std::string pack() const;

  std::mutex mutex_;
  std::string pack_;
  cuda::Inflated inflated_;
  std::shared_ptr<const cuda::Driver> driver_;  // from the last detection
  std::map<std::string, std::unique_ptr<cuda::CudaDevice>> open_;
};

}  // namespace lowrank
