// Files: self-closing handles, positioned reads and writes that survive interruption, and page cache hints, so that
// streaming a model larger than memory does not evict everything else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/lists.h"

namespace lowrank::os {

class NewFile;

/// A file open for reading. Any thread may read through it.
class File {
 public:
  /// Throws Error("FILE_FORMAT") naming the path and the system's reason.
  explicit File(const std::string& path);
  /// The same file, even if it is unnamed. Throws Error("FILE_FORMAT") with the system's reason.
  explicit File(const NewFile& file);
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  /// For operating system calls not provided here: the descriptor, or the HANDLE on Windows. Closed with this object.
  intptr_t handle() const { return handle_; }
  /// Size of the file at the time of the call.
  int64_t size() const;
  /// True if the file system is in memory (tmpfs), so that paging would save nothing.
  bool lives_in_memory() const;

  /// Reads `bytes` bytes at `offset`; throws Error("FILE_FORMAT") when the file ends before that or reading fails.
  void read(void* out, int64_t bytes, int64_t offset) const;

  /// Announces random access, which turns off readahead.
  void expect_no_order() const;
  /// Requests that the range be read in the background.
  void will_need(int64_t offset, int64_t bytes) const;
  /// Returns the clean pages of a range that has been read to the system, except a last page shared with what
  /// follows.
  void drop(int64_t offset, int64_t bytes) const;

 private:
  std::string path_;
  intptr_t handle_ = -1;
};

/// A file being created. Callers decide its final name and fate.
class NewFile {
 public:
  /// Creates it and reserves its space, so that a full disk is noticed early. Throws Error("WRITE") naming the path and
  /// the system's reason, also if the path exists.
  NewFile(const std::string& path, int64_t bytes);
  /// Creates an unnamed file in the file system of a folder; it is freed with the last object that has it open, or with
  /// the process. Throws Error("WRITE") as above.
  static std::unique_ptr<NewFile> nameless(const std::string& folder, int64_t bytes);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  /// Throws Error("WRITE") when the system refuses.
  void write(const void* data, int64_t bytes, int64_t offset) const;
  /// Starts writing the range to disk in the background.
  void begin_to_put_away(int64_t offset, int64_t bytes) const;
  /// Writes the range to disk and releases its pages.
  void put_away(int64_t offset, int64_t bytes) const;
  /// Writes everything to disk.
  void sync() const;

 private:
  friend class File;
  NewFile(const std::string& path, int64_t bytes, bool nameless);
  [[noreturn]] void refused() const;
  std::string path_;
  int64_t bytes_;
  intptr_t handle_ = -1;
};

/// Locks the open file for this process, by whichever path it is opened, until the descriptor is closed or the process
/// exits. Returns at once: `held` if another descriptor has the lock, `unsupported` if the file system has no locks.
/// Throws Error("WRITE") with the system's reason.
FileLock lock_file(int descriptor);

}  // namespace lowrank::os
