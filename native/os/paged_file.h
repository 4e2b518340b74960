// An unnamed file for data that does not fit in memory; it is freed with the object, or with the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "os/file.h"

namespace lowrank::os {

/// Initially zero. The page cache keeps at most the last range written, as far as the system releases pages: Linux does
/// so exactly, for page-aligned ranges. One thread at a time.
class PagedFile {
 public:
  /// Throws Error("WRITE") if the folder has no space or is not writable, and Error("CONFIG") if its files are in
  /// memory themselves.
  PagedFile(const std::string& folder, int64_t bytes);

  void read(void* out, int64_t bytes, int64_t offset) const;
  /// Prefetches a range into the page cache, where it stays until it is read.
  void will_need(int64_t offset, int64_t bytes) const { reader_->will_need(offset, bytes); }
  /// Writes in the background; the previous range is on disk and out of memory when this returns.
  void write(const void* data, int64_t bytes, int64_t offset);
  /// Waits until everything is on disk and out of memory.
  void settle();

  int64_t bytes() const { return bytes_; }
  /// For operating system calls not provided here.
  intptr_t handle() const { return reader_->handle(); }

 private:
  int64_t bytes_;
  int64_t last_offset_ = 0, last_bytes_ = 0;  // being written to disk
  std::unique_ptr<NewFile> writer_;
  std::unique_ptr<File> reader_;
};

}  // namespace lowrank::os
