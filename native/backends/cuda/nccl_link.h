// The GPUs of several ranks, connected by NCCL.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backends/cuda/launcher.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/nccl.h"
#include "device/link.h"

namespace lowrank::cuda {

class NcclLink final : public Link {
 public:
  /// This rank's place among those that connect.
  struct Place {
    NcclId id;
    int rank, ranks;
  };

  /// Returns once all ranks have connected. Throws Error("DEVICE") where the library fails, and Error("RANKS") where
  /// `given_up` says so before.
  /// @param memory of the card
  /// @param launcher of its kernels, with the card entered
  NcclLink(std::shared_ptr<const Nccl> nccl, CudaMemory& memory, Launcher& launcher, const Place& place,
           const std::function<bool()>& given_up);
  /// All ranks must destroy theirs.
  ~NcclLink() override;
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  std::string library() const override { return "NCCL " + nccl_->version(); }
  int ranks() const override { return place_.ranks; }
  CudaMemory& memory() override { return memory_; }
  void gather(Ptr<float> own, Ptr<float> all, int64_t count) override;
  void exchange(Ptr<float> to, Ptr<float> from, int64_t count) override;
  void add(Ptr<float> pieces, int64_t count, Ptr<float> to) override;
  void zero(Ptr<float> at, int64_t count) override;
  bool finish(const std::function<bool()>& given_up) override;

 private:
  void connect(const std::function<bool()>& given_up);
  // With the card entered.
  void order(Ptr<float> at, int64_t count, bool writes);
  void check(int error, const char* call);
  void abort();

  const std::shared_ptr<const Nccl> nccl_;
  CudaMemory& memory_;
  Gpu& gpu_;
  Launcher& launcher_;
  const Place place_;
  NcclComm comm_ = nullptr;         // null once it is aborted
  std::unique_ptr<Gpu::Mark> end_;  // of the work that is waited for
};

}  // namespace lowrank::cuda
