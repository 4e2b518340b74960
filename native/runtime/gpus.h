// The NVIDIA GPUs of this machine as devices of the engine: found when they are asked for, and kept from their first use
// until the process ends.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/cuda/device.h"
#include "backends/cuda/driver.h"

namespace lowrank {

/// CUDA on this machine.
struct CudaInfo {
  bool available = false;  // true if there is a card to run on
  int version = 0;         // of CUDA that the driver supports, such as 12080; 0 where there is no driver
  std::vector<cuda::FoundCard> cards;
  std::vector<std::string> reasons;  // why cards, or all of CUDA, cannot be used
};

class Gpus {
 public:
  /// @param path of the kernel pack, where LOWRANK_CUDA_PACK names none
  void set_pack(const std::string& path);
  CudaInfo info();
  /// The device by the name "cuda:N". Throws Error("DEVICE") with the reasons where it cannot be used.
  Device& open(const std::string& name);
  /// The open one that has a memory; null where none has.
  Device* with(const Memory& memory);
  /// Properties of a card by that name. Throws as `open`.
  cuda::Card card(const std::string& name);

 private:
  CudaInfo look();
  const cuda::FoundCard& find(const CudaInfo& info, const std::string& name) const;
  std::string pack() const;

  std::mutex mutex_;
  std::string pack_;
  std::shared_ptr<const cuda::Driver> driver_;  // of the last look
  std::map<std::string, std::unique_ptr<cuda::CudaDevice>> open_;
};

}  // namespace lowrank
