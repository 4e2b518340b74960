#include "os/posix/descriptor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "os/mapped_file.h"

bool lowrank::os::drops_pages() { return true; }

namespace lowrank::os::descriptor {

bool lives_in_memory(int file) {
  constexpr uint32_t kTmpfs = 0x01021994, kRamfs = 0x858458f6;
  struct statfs system{};
  if (::fstatfs(file, &system) != 0) return false;
  const auto type = static_cast<uint32_t>(system.f_type);
  return type == kTmpfs || type == kRamfs;
}

bool reserve(int file, int64_t bytes) { return ::fallocate(file, 0, 0, bytes) == 0 || errno == EOPNOTSUPP; }

bool sync(int file) { return ::fsync(file) == 0; }

bool begin_to_put_away(int file, int64_t offset, int64_t bytes) {
  return ::sync_file_range(file, offset, bytes, SYNC_FILE_RANGE_WRITE) == 0;
}

bool put_away(int file, int64_t offset, int64_t bytes) {
  constexpr unsigned kAndWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (::sync_file_range(file, offset, bytes, kAndWait) != 0) return false;
  drop(file, offset, bytes);
  return true;
}

void expect_no_order(int file) { (void)::posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM); }

void will_need(int file, int64_t offset, int64_t bytes) {
  (void)::posix_fadvise(file, offset, bytes, POSIX_FADV_WILLNEED);
}

void drop(int file, int64_t offset, int64_t bytes) { (void)::posix_fadvise(file, offset, bytes, POSIX_FADV_DONTNEED); }

bool look_up_pages(const void* data, int64_t bytes, unsigned char* pages) {
  return ::mincore(const_cast<void*>(data), static_cast<size_t>(bytes), pages) == 0;
}

}  // namespace lowrank::os::descriptor
