// A file mapped for reading, whose pages come and go as they are told to: what is brought in, what is given back, and
// how much of it is in memory at the moment. Linux does all of it to the page. On macOS and Windows giving back is advice
// that the system may not take, so what stays in memory is its decision.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "os/file.h"

namespace lowrank::os {

class MappingGuard;

/// Bytes of a page of this system; a power of two.
int64_t page_bytes();

/// Whole pages of a file, from `begin` to before `end`, which are equal where there are none.
struct PageRange {
  int64_t begin, end;
};
/// The pages that lie wholly within a range of a file of `size` bytes. So does the last one, whose rest nothing else is in.
PageRange pages_within(int64_t offset, int64_t bytes, int64_t size);
/// The pages that a range reaches into.
PageRange pages_across(int64_t offset, int64_t bytes);

/// True if pages of files leave memory at once when they are dropped, as on Linux. Elsewhere dropping is advice.
bool drops_pages();

/// A whole file, mapped read-only. Addresses stay valid as long as the object; any thread may use it. Where the
/// file is cut short meanwhile, zeros are read, and `expect_whole` says so: call it before a result counts.
class MappedFile {
 public:
  /// Throws Error("FILE_FORMAT") naming the path and the system's reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();

  const std::string& path() const { return file_.path(); }
  int64_t bytes() const { return bytes_; }
  const std::byte* data() const { return data_; }

  /// Throws Error("FILE_FORMAT") naming the file when it is shorter than it was, or a page of it could not be read.
  void expect_whole() const;

  /// All of the file will be read, again and again: in large pages where the system has them for files, else in the
  /// background from now on. Pages that are in memory already stay as they are.
  void prefetch() const;

  /// From now on nothing is read but what is touched or loaded: the system no longer guesses what comes next.
  void expect_no_order() const;
  /// Asks for the range to be read in the background.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Reads the range into memory and returns when it is there. Throws Error("FILE_FORMAT") when reading fails.
  void load(int64_t offset, int64_t bytes) const;
  /// Takes the pages that lie wholly within the range out of this process and out of the page cache. They are read again
  /// when they are touched. Pages that another process has mapped stay.
  void drop(int64_t offset, int64_t bytes) const;

  /// Bytes of the file's pages that are in memory, whoever brought them there; -1 where the system does not say.
  int64_t resident_bytes() const;
  bool lives_in_memory() const { return file_.lives_in_memory(); }

 private:
  /// Maps the pages of a range that are in memory, here and now.
  void touch(int64_t offset, int64_t bytes) const;

  File file_;
  int64_t bytes_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<MappingGuard> guard_;  // where reading a file that was cut short would end the process
};

}  // namespace lowrank::os
