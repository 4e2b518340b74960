// A stash in a file.
#pragma once

#include <string>
#include <vector>

#include "device/memory.h"
#include "os/paged_file.h"

namespace lowrank {

/// The host waits for each copy, and makes none of memory that the device shares with it.
class FileStash final : public Stash {
 public:
  FileStash(Memory& memory, const std::string& folder, int64_t bytes) : memory_(memory), file_(folder, bytes) {}
  void put(int64_t offset, Ptr<std::byte> from, int64_t bytes) override;
  void fetch(Ptr<std::byte> to, int64_t offset, int64_t bytes) override;
  void will_fetch(int64_t offset, int64_t bytes) override { file_.will_need(offset, bytes); }
  void settle() override { file_.settle(); }
  void read(int64_t offset, void* to, int64_t bytes) override { file_.read(to, bytes, offset); }
  void write(int64_t offset, const void* from, int64_t bytes) override { file_.write(from, bytes, offset); }
  const os::PagedFile& file() const { return file_; }

 private:
  Memory& memory_;
  os::PagedFile file_;
  std::vector<std::byte> room_;
};

}  // namespace lowrank
