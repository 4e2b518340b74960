// Reading files: a descriptor that closes itself, positioned reads that survive interruption, and hints to the page
// cache, so that streaming a model larger than memory does not push everything else out.
#pragma once

#include <cstdint>
#include <string>

namespace lowrank::os {

/// A file open for reading. Any thread may read through it.
class File {
 public:
  /// Throws Error("FILE_FORMAT") naming the path and the system's reason.
  explicit File(const std::string& path);
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  /// For calls of the operating system that are not here; closed with this object.
  int descriptor() const { return descriptor_; }
  /// Bytes of the file at the time of the call.
  int64_t size() const;

  /// Reads `bytes` bytes at `offset`; throws Error("FILE_FORMAT") when the file ends before that or reading fails.
  void read(void* out, int64_t bytes, int64_t offset) const;

  /// Says that reads follow no order, so that none is answered with more than it asks for.
  void expect_no_order() const;
  /// Asks for the range to be read in the background.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Gives the clean pages of a range that has been read back to the system. The page at the end of the range, shared
  /// with what follows, stays.
  void drop(int64_t offset, int64_t bytes) const;

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace lowrank::os
