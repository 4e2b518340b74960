// Files: a handle that closes itself, positioned reads and writes that survive interruption, and hints to the page
// cache, so that streaming a model larger than memory does not push everything else out.
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
  /// The same file, also where it has no name. Throws Error("FILE_FORMAT") with the system's reason.
  explicit File(const NewFile& file);
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  /// For calls of the operating system that are not here: the descriptor, or the HANDLE of Windows. Closed with this object.
  intptr_t handle() const { return handle_; }
  /// Bytes of the file at the time of the call.
  int64_t size() const;
  /// True if the file system keeps its files in memory (tmpfs), so that paging would save none.
  bool lives_in_memory() const;

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
  intptr_t handle_ = -1;
};

/// A file that is being made. What becomes of it, and under which name, is for others to decide.
class NewFile {
 public:
  /// Creates it and takes the room, so that a full disk is noticed before there is anything to lose. Throws
  /// Error("WRITE") naming the path and the system's reason, also where something stands there already.
  NewFile(const std::string& path, int64_t bytes);
  /// One without a name, in the file system of a folder: it goes with the last object that has it open, or with the process.
  /// Throws Error("WRITE") as above.
  static std::unique_ptr<NewFile> nameless(const std::string& folder, int64_t bytes);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();

  /// Throws Error("WRITE") when the system refuses.
  void write(const void* data, int64_t bytes, int64_t offset) const;
  /// Lets the range go to the disk in the background.
  void begin_to_put_away(int64_t offset, int64_t bytes) const;
  /// Brings the range to the disk and lets go of its pages.
  void put_away(int64_t offset, int64_t bytes) const;
  /// Brings everything to the disk.
  void sync() const;

 private:
  friend class File;
  NewFile(const std::string& path, int64_t bytes, bool nameless);
  [[noreturn]] void refused() const;
  std::string path_;
  int64_t bytes_;
  intptr_t handle_ = -1;
};

/// Locks the open file for this process, whichever path leads to it, until the descriptor is closed or the process dies.
/// Returns at once: `held` where another descriptor has the lock, `unsupported` where the file system has no locks. Throws
/// Error("WRITE") with the system's reason.
FileLock lock_file(int descriptor);

}  // namespace lowrank::os
