// A file for what does not fit into memory, without a name: it goes with the object, or with the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "os/file.h"

namespace lowrank::os {

/// All zero at first. Of what is read and written the page cache keeps the last range that was written at most, as far as
/// the system lets go of it: Linux does to the page, where ranges begin and end with pages. One thread at a time.
class PagedFile {
 public:
  /// Throws Error("WRITE") where the folder has no room or cannot be written, and Error("CONFIG") where its files are in
  /// memory themselves.
  PagedFile(const std::string& folder, int64_t bytes);

  void read(void* out, int64_t bytes, int64_t offset) const;
  /// Asks for a range to be brought in meanwhile. It is in the page cache until it is read.
  void will_need(int64_t offset, int64_t bytes) const { reader_->will_need(offset, bytes); }
  /// Goes to the disk while others are read; the range before is there, and out of memory, when this returns.
  void write(const void* data, int64_t bytes, int64_t offset);
  /// Waits until all is there, and out of memory.
  void settle();

  int64_t bytes() const { return bytes_; }
  /// For calls of the operating system that are not here.
  intptr_t handle() const { return reader_->handle(); }

 private:
  int64_t bytes_;
  int64_t last_offset_ = 0, last_bytes_ = 0;  // on its way to the disk
  std::unique_ptr<NewFile> writer_;
  std::unique_ptr<File> reader_;
};

}  // namespace lowrank::os
