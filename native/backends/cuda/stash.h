// Room for numbers of the card: in pinned memory of the host, or in a file where the system refuses that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/cuda/memory.h"
#include "os/paged_file.h"

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

/// The host waits for each copy.
class FileStash final : public Stash {
 public:
  FileStash(CudaMemory& memory, const std::string& folder, int64_t bytes) : memory_(memory), file_(folder, bytes) {}
  void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) override;
  void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) override;
  void will_fetch(int64_t offset, int64_t bytes) override { file_.will_need(offset, bytes); }
  void settle() override { file_.settle(); }
  void read(int64_t offset, void* to, int64_t bytes) override { file_.read(to, bytes, offset); }
  void write(int64_t offset, const void* from, int64_t bytes) override { file_.write(from, bytes, offset); }

 private:
  CudaMemory& memory_;
  os::PagedFile file_;
  std::vector<std::byte> room_;
};

}  // namespace lowrank::cuda
