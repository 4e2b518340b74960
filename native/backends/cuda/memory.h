// A card's memory.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "backends/cuda/gpu.h"
#include "backends/cuda/transfers.h"
#include "device/memory.h"

namespace lowrank::cuda {

/// Memory of the host that the card copies from and to beside other work. The thread that makes or frees it must
/// have entered the card.
class Pinned {
 public:
  /// Throws Error("OUT_OF_MEMORY").
  Pinned(Gpu& gpu, int64_t bytes);
  /// Null where the system refuses it.
  Pinned(Gpu& gpu, int64_t bytes, std::nothrow_t);
  ~Pinned() {
    if (data_ != nullptr) gpu_.driver().cuMemFreeHost(data_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  std::byte* data() const { return data_; }

 private:
  Gpu& gpu_;
  std::byte* data_ = nullptr;
};

class CudaMemory final : public Memory {
 public:
  /// Takes the pinned memory that copies pass through, so that no upload fails for want of it.
  explicit CudaMemory(Gpu& gpu);
  ~CudaMemory() override;

  std::unique_ptr<Allocation> allocate(Category category, int64_t bytes) override;
  std::unique_ptr<Allocation> scratch(int64_t bytes) override;
  void upload(Ptr<std::byte> to, const void* from, int64_t bytes) override;
  void download(void* to, Ptr<std::byte> from, int64_t bytes, std::string_view what) override;
  void copy(Ptr<std::byte> to, Ptr<std::byte> from, int64_t bytes) override;
  std::byte* shared(Ptr<std::byte>) override { return nullptr; }
  /// In pinned memory, or in a file of the folder where the system refuses that.
  std::unique_ptr<Stash> stash(Category category, const std::string& folder, int64_t bytes) override;
  std::shared_ptr<std::byte> pinned(Category category, int64_t bytes) override;
  /// Memory whose contents do not matter.
  std::unique_ptr<Allocation> uninitialized(Category category, int64_t bytes);

  // The calling thread must have entered the card.
  Gpu& gpu() { return gpu_; }
  Transfers& transfers() { return transfers_; }
  void queue_upload(Ptr<std::byte> to, const void* from, int64_t bytes);
  void queue_zero(Ptr<std::byte> to, int64_t bytes);
  void queue_zero(const Matrix& to, int64_t rows, int64_t cols);
  CUdeviceptr take(std::optional<Category> category, int64_t bytes);

 private:
  // Uploads go through slots of pinned memory in turn.
  struct Ring {
    explicit Ring(Gpu& gpu);
    Pinned pinned;
    std::array<std::unique_ptr<Gpu::Mark>, 4> ends;  // of the copies from a slot
    size_t slot = 0;
    int64_t used = 0;  // of the slot
  };
  Gpu& gpu_;
  Transfers transfers_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<Pinned> landing_;  // of downloads
};

}  // namespace lowrank::cuda
