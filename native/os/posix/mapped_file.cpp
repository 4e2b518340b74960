#include "os/mapped_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "os/posix/descriptor.h"
#include "os/posix/mapping_guard.h"

namespace lowrank::os {
namespace {

/// Size limit of one hint; the system silently truncates larger ones.
constexpr int64_t kHintBytes = int64_t{128} << 10;

/// A page that something else looks at in the moment when it is given back stays; so it is asked again a few times.
constexpr int kAttempts = 4;

void* address(const std::byte* data) { return const_cast<std::byte*>(data); }

/// Pages of a mapped range that are in memory; -1 where the system does not say.
int64_t resident_pages(const std::byte* data, int64_t bytes) {
  std::vector<unsigned char> pages(static_cast<size_t>((bytes + page_bytes() - 1) / page_bytes()));
  if (!descriptor::look_up_pages(data, bytes, pages.data())) return -1;
  return std::count_if(pages.begin(), pages.end(), [](unsigned char state) { return (state & 1) != 0; });
}

}  // namespace

int64_t page_bytes() {
  static const int64_t bytes = ::sysconf(_SC_PAGESIZE);
  return bytes;
}

MappedFile::MappedFile(const std::string& path) : file_(path), bytes_(file_.size()) {
  if (bytes_ == 0) fail("FILE_FORMAT", path, " is empty, so it cannot be mapped.");
  void* const data =
      ::mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ, MAP_SHARED, static_cast<int>(file_.handle()), 0);
  if (data == MAP_FAILED) fail("FILE_FORMAT", path, " cannot be mapped: ", std::generic_category().message(errno), ".");
  data_ = static_cast<const std::byte*>(data);
  guard_ = std::make_shared<MappingGuard>(data, bytes_);
}

MappedFile::~MappedFile() {
  guard_.reset();
  ::munmap(address(data_), static_cast<size_t>(bytes_));
}

void MappedFile::expect_whole() const {
  const int64_t now = file_.size();
  if (now >= bytes_ && !guard_->broken()) return;
  const char* const advice =
      " Nothing that was computed since counts. Put the file back and load the model again; a file that is in use is "
      "replaced by renaming, not by writing over it.";
  if (now < bytes_)
    fail("FILE_FORMAT", path(), " was truncated while it was in use: it had ", bytes_, " bytes and now has ", now, ".",
         advice);
  fail("FILE_FORMAT", path(),
       " could not be read while it was in use: it was temporarily truncated, or its disk "
       "failed.",
       advice);
}

void MappedFile::prefetch() const {
#if defined(MADV_HUGEPAGE)
  // The system then reads ahead in large pages as they are touched. Asked for the whole file, it uses small ones, and
  // looking those up takes as long as reading their contents.
  if (::madvise(address(data_), static_cast<size_t>(bytes_), MADV_HUGEPAGE) == 0) return;
#endif
  (void)::madvise(address(data_), static_cast<size_t>(bytes_), MADV_WILLNEED);
}

void MappedFile::expect_no_order() const {
  (void)::madvise(address(data_), static_cast<size_t>(bytes_), MADV_RANDOM);
  file_.expect_no_order();
  file_.drop(0, bytes_);  // large pages that another process loaded could not be dropped in part
}

void MappedFile::will_need(int64_t offset, int64_t bytes) const {
  for (int64_t at = offset; at < offset + bytes; at += kHintBytes)
    file_.will_need(at, std::min(kHintBytes, offset + bytes - at));
}

void MappedFile::load(int64_t offset, int64_t bytes) const {
  // All of it is asked for at once, so that the disk has enough to do; reading then waits for each piece. A copy passes
  // through a buffer that stays in the cache of the processor.
  will_need(offset, bytes);
  std::vector<std::byte> copy(static_cast<size_t>(std::min(bytes, kHintBytes)));
  for (int64_t at = offset; at < offset + bytes; at += kHintBytes)
    file_.read(copy.data(), std::min(kHintBytes, offset + bytes - at), at);
  // A page fault in another thread maps neighboring pages as well, including those that are being dropped at that
  // moment, which then stay.
  touch(offset, bytes);
}

void MappedFile::drop(int64_t offset, int64_t bytes) const {
  const auto [begin, end] = pages_within(offset, bytes, bytes_);
  if (begin == end) return;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    // A page that is still mapped stays in the page cache, so the mapping gives it up first.
    (void)::madvise(address(data_ + begin), static_cast<size_t>(end - begin), MADV_DONTNEED);
    file_.drop(begin, end - begin);
    if (resident_pages(data_ + begin, std::min(end, bytes_) - begin) <= 0) return;
  }
}

int64_t MappedFile::resident_bytes() const {
  const int64_t pages = resident_pages(data_, bytes_);
  return pages < 0 ? -1 : pages * page_bytes();
}

}  // namespace lowrank::os
