#include "os/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>

#include "core/error.h"
#include "os/posix/descriptor.h"

namespace lowrank::os {
namespace {

/// Text of errno. Files are read on several threads, and strerror is not thread-safe.
std::string reason() { return std::generic_category().message(errno); }

int descriptor_of(intptr_t handle) { return static_cast<int>(handle); }

}  // namespace

File::File(const std::string& path) : path_(path) {
  int file;
  do {
    file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (file < 0 && errno == EINTR);
  if (file < 0) fail("FILE_FORMAT", path, " cannot be opened: ", reason(), ". Check the path and its permissions.");
  handle_ = file;
}

File::File(const NewFile& file) : path_(file.path_) {
  const int copy = ::fcntl(descriptor_of(file.handle_), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) fail("FILE_FORMAT", path_, " cannot be opened: ", reason(), ".");
  handle_ = copy;
}

File::~File() { ::close(descriptor_of(handle_)); }

int64_t File::size() const {
  struct stat status{};
  if (::fstat(descriptor_of(handle_), &status) != 0)
    fail("FILE_FORMAT", path_, ": its size cannot be read: ", reason());
  return status.st_size;
}

bool File::lives_in_memory() const { return descriptor::lives_in_memory(descriptor_of(handle_)); }

void File::read(void* out, int64_t bytes, int64_t offset) const {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(descriptor_of(handle_), static_cast<char*>(out) + done,
                                static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
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

void File::expect_no_order() const { descriptor::expect_no_order(descriptor_of(handle_)); }

void File::will_need(int64_t offset, int64_t bytes) const {
  descriptor::will_need(descriptor_of(handle_), offset, bytes);
}

void File::drop(int64_t offset, int64_t bytes) const {
  static const int64_t page = ::sysconf(_SC_PAGESIZE);
  const int64_t begin = offset / page * page;  // the page before was shared with what has been read already
  const int64_t end = (offset + bytes) / page * page;
  if (end > begin) descriptor::drop(descriptor_of(handle_), begin, end - begin);
}

NewFile::NewFile(const std::string& path, int64_t bytes) : NewFile(path, bytes, false) {}

NewFile::NewFile(const std::string& path, int64_t bytes, bool nameless) : path_(path), bytes_(bytes) {
  int file;
  do {
    file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (file < 0 && errno == EINTR);
  if (file < 0) refused();
  handle_ = file;
  const bool sized = descriptor::reserve(file, bytes) && ::ftruncate(file, bytes) == 0;
  const int error = errno;
  if (nameless || !sized) ::unlink(path.c_str());
  if (sized) return;
  ::close(file);
  errno = error;
  refused();
}

std::unique_ptr<NewFile> NewFile::nameless(const std::string& folder, int64_t bytes) {
  static std::atomic<int> made{0};
  const std::string path = folder + "/.paged-" + std::to_string(::getpid()) + '-' + std::to_string(made++);
  // A process with the same number may have been killed before it could do so.
  ::unlink(path.c_str());
  return std::unique_ptr<NewFile>(new NewFile(path, bytes, true));
}

NewFile::~NewFile() { ::close(descriptor_of(handle_)); }

void NewFile::refused() const {
  fail("WRITE", "cannot write ", path_, " (", bytes_, " bytes): ", reason(), "; no partial file was left");
}

void NewFile::write(const void* data, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t written = ::pwrite(descriptor_of(handle_), static_cast<const char*>(data) + done,
                                     static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
    if (written >= 0)
      done += written;
    else if (errno != EINTR)
      refused();
  }
}

void NewFile::begin_to_put_away(int64_t offset, int64_t bytes) const {
  if (!descriptor::begin_to_put_away(descriptor_of(handle_), offset, bytes)) refused();
}

void NewFile::put_away(int64_t offset, int64_t bytes) const {
  if (!descriptor::put_away(descriptor_of(handle_), offset, bytes)) refused();
}

void NewFile::sync() const {
  if (!descriptor::sync(descriptor_of(handle_))) refused();
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
