// A file mapped for reading, with control over its pages: loading, releasing, and counting those in memory. On Linux
// this is exact to the page. On macOS and Windows releasing is only advice, so the system decides what stays in
// memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "os/file.h"

namespace lowrank::os {

class MappingGuard;

/// Page size of this system in bytes; a power of two.
int64_t page_bytes();

/// Whole pages of a file in [begin, end); equal if there are none.
struct PageRange {
  int64_t begin, end;
};
/// Pages entirely within a range of a file of `size` bytes, including a last page that only the range uses.
PageRange pages_within(int64_t offset, int64_t bytes, int64_t size);
/// Pages that overlap a range.
PageRange pages_across(int64_t offset, int64_t bytes);

/// True if dropped file pages leave memory immediately, as on Linux. Elsewhere dropping is advice.
bool drops_pages();

/// A whole file, mapped read-only. Addresses stay valid as long as the object; any thread may use it. If the file is
/// truncated meanwhile, zeros are read and `expect_whole` throws: call it before using a result.
class MappedFile {
 public:
  /// Throws Error("FILE_FORMAT") naming the path and the system's reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();

  const std::string& path() const { return file_.path(); }
  int64_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_; }

  /// Throws Error("FILE_FORMAT") naming the file when it was truncated, or a page of it could not be read.
  void expect_whole() const;

  /// Prepares for reading the whole file repeatedly: uses large pages if the system supports them for files, else
  /// starts reading it in the background. Pages already in memory are unaffected.
  void prefetch() const;

  /// Turns off readahead: from now on, only touched or loaded pages are read.
  void expect_no_order() const;
  /// Requests that the range be read in the background.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Reads the range into memory. Throws Error("FILE_FORMAT") when reading fails.
  void load(int64_t offset, int64_t bytes) const;
  /// Removes the pages entirely within the range from this process and from the page cache. They are read again when
  /// touched. Pages mapped by another process stay.
  void drop(int64_t offset, int64_t bytes) const;

  /// Bytes of the file in the page cache, whoever loaded them; -1 if the system does not report it.
  int64_t resident_bytes() const;
  bool lives_in_memory() const { return file_.lives_in_memory(); }

 private:
  /// Maps the pages of a range that are in memory.
  void touch(int64_t offset, int64_t bytes) const;

  File file_;
  int64_t bytes_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<MappingGuard> guard_;  // where reading a truncated file would crash the process
};

}  // namespace lowrank::os
