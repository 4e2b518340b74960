// The memory of the process as that of a device.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "device/memory.h"
#include "os/paged_file.h"

namespace lowrank::cpu {

/// Uncounted room, its contents as they come.
class Scratch final : public Allocation {
 public:
  explicit Scratch(int64_t bytes);
  Ptr<std::byte> data() const override;
  int64_t bytes() const override { return bytes_; }
  void clear() override;

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(std::byte* at) const { ::operator delete(at, kLine); }
  };
  int64_t bytes_;
  std::unique_ptr<std::byte, Free> room_;
};

/// A file.
class FileStash final : public Stash {
 public:
  FileStash(const std::string& folder, int64_t bytes) : file_(folder, bytes) {}
  void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) override;
  void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) override;
  void will_fetch(int64_t offset, int64_t bytes) override { file_.will_need(offset, bytes); }
  void settle() override { file_.settle(); }
  void read(int64_t offset, void* to, int64_t bytes) override { file_.read(to, bytes, offset); }
  void write(int64_t offset, const void* from, int64_t bytes) override { file_.write(from, bytes, offset); }
  const os::PagedFile& file() const { return file_; }

 private:
  os::PagedFile file_;
};

/// Never destroyed.
Memory& memory();

}  // namespace lowrank::cpu
