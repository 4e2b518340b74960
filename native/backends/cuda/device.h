// An NVIDIA GPU as a device: kernels as values become launches, and weights lie in its memory.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/cuda/cublaslt.h"
#include "backends/cuda/gpu.h"
#include "backends/cuda/launcher.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/nccl_link.h"
#include "backends/cuda/weight.h"
#include "device/device.h"

namespace lowrank::cuda {

class WeightRing;

/// Workspace of the kernels on a kind of card, which need not be there.
class CudaSizes final : public KernelSizes {
 public:
  explicit CudaSizes(const Card& card) : card_(card) {}
  const Card& card() const { return card_; }
  int64_t workspace(const Kernel& kernel) const override;
  bool joins_operands() const override { return true; }

 private:
  Card card_;
};

class CudaDevice final : public Device, private Launcher {
 public:
  /// @param pack path of the kernel pack
  /// @param inflated its images for the card that are compressed
  CudaDevice(std::shared_ptr<const Driver> driver, const FoundCard& found, const std::string& pack,
             Inflated inflated = {});

  const CudaSizes& sizes() const override { return sizes_; }
  CudaMemory& memory() override { return memory_; }
  /// Such as "cuda:0".
  std::string name() const { return gpu_.name(); }
  /// The library of matrix products that large ones go to; null without one.
  const CublasLt* library() const { return library_.get(); }

  /// Copies all weights to the card, once for all that use the same model at a time.
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override;
  void use(const PlacedWeights* weights) override;
  /// The same rows whether a base is streamed or not, so that sums are cut alike.
  int64_t rows_at_once(int, int64_t rows) const override { return std::min(rows, kTableRows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override;
  void expect(std::span<const WeightRows> order) override;
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override;
  void repeat(const void* key, const std::function<void()>& body) override;
  /// The CPU's reference kernels, on copies of what a kernel touches.
  std::unique_ptr<Device> reference() override;
  /// Connects the card with those of other ranks. Must not outlive this; throws as NcclLink.
  std::unique_ptr<Link> link(std::shared_ptr<const Nccl> nccl, const NcclLink::Place& place,
                             const std::function<bool()>& given_up);
  /// Bytes of streamed bases that were fetched so far, of those that are placed.
  int64_t fetched() const;
  /// Waits for all kernels.
  void finish();

 private:
  struct Copies;
  class Placed;
  void look_up(const DecodeRows& kernel);

  const Card& card() const override { return gpu_.card(); }
  const Weights& weights() const override { return *weights_; }
  void zero(Ptr<std::byte> to, int64_t bytes) override { memory_.queue_zero(to, bytes); }
  void zero(const Matrix& to, int64_t rows, int64_t cols) override { memory_.queue_zero(to, rows, cols); }
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override { memory_.queue_upload(to, from, bytes); }
  bool has_library() const override { return library_ != nullptr; }
  bool multiply(const LibraryProduct& product, Ptr<std::byte> workspace) override {
    return library_->multiply(product, workspace, gpu_.stream(Lane::kernels));
  }
  void launch(const char* kernel, Grid blocks, int threads, const void* args, int64_t args_bytes,
              int64_t shared_bytes) override;

  Gpu gpu_;
  CudaMemory memory_;
  std::unique_ptr<CublasLt> library_;
  const CudaSizes sizes_;
  std::map<const void*, std::weak_ptr<Copies>> copies_;  // by model
  const Weights none_;
  const Weights* weights_ = &none_;     // that kernels name
  const WeightStore* store_ = nullptr;  // the same on the host
  WeightRing* ring_ = nullptr;          // where they are streamed
};

}  // namespace lowrank::cuda
