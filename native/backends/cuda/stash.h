// Room for numbers of the card in pinned memory of the host.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "backends/cuda/memory.h"

namespace lowrank::cuda {

/// Copies run beside the kernels; a kernel waits for one only where it touches the memory that it reads or writes.
class PinnedStash final : public Stash {
 public:
  /// Throws Error("OUT_OF_MEMORY").
  PinnedStash(CudaMemory& memory, Category category, int64_t bytes);
  ~PinnedStash() override;
  void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) override;
  void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) override;
  void will_fetch(int64_t, int64_t) override {}
  void settle() override;
  void read(int64_t offset, void* to, int64_t bytes) override;
  void write(int64_t offset, const void* from, int64_t bytes) override;

 private:
  struct Copy {
    int64_t begin, end;
    bool put;
    std::shared_ptr<Gpu::Mark> done;
  };
  /// Copies that meet a range, of those that put or of those that fetch.
  template <class Body>
  void each(int64_t offset, int64_t bytes, bool put, Body&& body);
  void note(int64_t offset, int64_t bytes, bool put, std::shared_ptr<Gpu::Mark> done);

  CudaMemory& memory_;
  const int64_t bytes_;
  std::optional<Pinned> pinned_;
  std::vector<Copy> copies_;  // that may still run
  Claim claim_;
};

}  // namespace lowrank::cuda
