// Launches of kernels with their arguments, to be compared.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/launcher.h"

namespace lowrank::cuda {

/// Arguments are compared byte by byte, so those of kernels have no padding.
class Launches {
 public:
  struct Launch {
    const char* kernel;
    CUfunction function;
    Grid blocks;
    int threads;
    int64_t shared_bytes;
    bool operator==(const Launch&) const = default;
  };

  void clear() {
    launches_.clear();
    args_.clear();
    begins_.clear();
  }
  void add(const Launch& launch, const void* args, int64_t bytes) {
    constexpr size_t kUnit = sizeof(Unit);
    launches_.push_back(launch);
    begins_.push_back(args_.size());
    args_.resize(args_.size() + (static_cast<size_t>(bytes) + kUnit - 1) / kUnit);
    if (bytes > 0) std::memcpy(&args_[begins_.back()], args, static_cast<size_t>(bytes));
  }
  /// Calls visit(launch, arguments).
  template <class Visit>
  void each(Visit&& visit) const {
    for (size_t i = 0; i < launches_.size(); ++i)
      visit(launches_[i], static_cast<const void*>(args_.data() + begins_[i]));
  }
  bool empty() const { return launches_.empty(); }
  bool operator==(const Launches& other) const {
    return launches_ == other.launches_ && args_.size() == other.args_.size() &&
           (args_.empty() || std::memcmp(args_.data(), other.args_.data(), args_.size() * sizeof(Unit)) == 0);
  }

 private:
  struct alignas(16) Unit {
    std::byte at[16] = {};
  };
  std::vector<Launch> launches_;
  std::vector<Unit> args_;
  std::vector<size_t> begins_;  // of each launch's arguments
};

}  // namespace lowrank::cuda
