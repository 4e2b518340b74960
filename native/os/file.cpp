#include "os/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#if defined(__linux__)
#include <sys/vfs.h>
#endif

#include "core/error.h"

namespace lowrank::os {
namespace {

/// What errno says. Files are read on several threads, which strerror is not made for.
std::string reason() { return std::generic_category().message(errno); }

}  // namespace

File::File(const std::string& path) : path_(path) {
  do {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    fail("FILE_FORMAT", path, " cannot be opened: ", reason(), ". Check the path and its permissions.");
  }
}

File::~File() { ::close(descriptor_); }

int64_t File::size() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) fail("FILE_FORMAT", path_, " has no size: ", reason());
  return status.st_size;
}

bool File::lives_in_memory() const {
#if defined(__linux__)
  constexpr uint32_t kTmpfs = 0x01021994, kRamfs = 0x858458f6;
  struct statfs system{};
  if (::fstatfs(descriptor_, &system) != 0) return false;
  const auto type = static_cast<uint32_t>(system.f_type);
  return type == kTmpfs || type == kRamfs;
#else
  return false;
#endif
}

void File::read(void* out, int64_t bytes, int64_t offset) const {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(descriptor_, static_cast<char*>(out) + done, static_cast<size_t>(bytes - done),
                                static_cast<off_t>(offset + done));
    if (got < 0) {
      if (errno == EINTR) continue;
      fail("FILE_FORMAT", path_, ": reading ", bytes, " bytes at offset ", offset, " failed: ", reason());
    }
    if (got == 0) {
      fail("FILE_FORMAT", path_, " ended early: expected ", bytes, " bytes at offset ", offset, ", found ", done,
           ". The file is truncated or was changed while it was read; download it again.");
    }
    done += got;
  }
}

// Hints: where one is refused, or the system has none, reading still works.
void File::expect_no_order() const {
#if defined(POSIX_FADV_RANDOM)
  (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_RANDOM);
#endif
}

void File::will_need([[maybe_unused]] int64_t offset, [[maybe_unused]] int64_t bytes) const {
#if defined(POSIX_FADV_WILLNEED)
  (void)::posix_fadvise(descriptor_, offset, bytes, POSIX_FADV_WILLNEED);
#endif
}

void File::drop([[maybe_unused]] int64_t offset, [[maybe_unused]] int64_t bytes) const {
#if defined(POSIX_FADV_DONTNEED)
  static const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t begin = offset / page * page;  // the page before was shared with what has been read already
  const int64_t end = (offset + bytes) / page * page;
  if (end > begin) (void)::posix_fadvise(descriptor_, begin, end - begin, POSIX_FADV_DONTNEED);
#endif
}

NewFile::NewFile(const std::string& path, int64_t bytes) : path_(path), bytes_(bytes) {
  do {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) refused();
  if (::ftruncate(descriptor_, bytes) == 0) {
#if defined(__linux__)
    // File systems that cannot take room ahead say so; on them a full disk shows in a write.
    if (::fallocate(descriptor_, 0, 0, bytes) == 0 || errno == EOPNOTSUPP) return;
#else
    return;
#endif
  }
  const int error = errno;
  ::close(descriptor_);
  ::unlink(path.c_str());
  errno = error;
  refused();
}

NewFile::~NewFile() { ::close(descriptor_); }

void NewFile::refused() const {
  fail("WRITE", "cannot write ", path_, " (", bytes_, " bytes): ", reason(), "; nothing was left half written");
}

void NewFile::write(const void* data, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t written = ::pwrite(descriptor_, static_cast<const char*>(data) + done,
                                     static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
    if (written >= 0)
      done += written;
    else if (errno != EINTR)
      refused();
  }
}

void NewFile::begin_to_put_away([[maybe_unused]] int64_t offset, [[maybe_unused]] int64_t bytes) const {
#if defined(__linux__)
  if (::sync_file_range(descriptor_, offset, bytes, SYNC_FILE_RANGE_WRITE) != 0) refused();
#endif
}

void NewFile::put_away(int64_t offset, int64_t bytes) const {
#if defined(__linux__)
  if (::sync_file_range(descriptor_, offset, bytes,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
    refused();
  (void)::posix_fadvise(descriptor_, offset, bytes, POSIX_FADV_DONTNEED);
#else
  (void)offset, (void)bytes;
  sync();
#endif
}

void NewFile::sync() const {
  if (::fsync(descriptor_) != 0) refused();
}

FileLock lock_file(int descriptor) {
  while (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return FileLock::held;
    if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL) return FileLock::unsupported;
    if (errno != EINTR) fail("WRITE", "a file cannot be locked: ", reason());
  }
  return FileLock::taken;
}

}  // namespace lowrank::os
