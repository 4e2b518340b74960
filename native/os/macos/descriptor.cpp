#include "os/posix/descriptor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "os/mapped_file.h"

bool lowrank::os::drops_pages() { return false; }

namespace lowrank::os::descriptor {

bool lives_in_memory(int) { return false; }

bool reserve(int file, int64_t bytes) {
  fstore_t room{F_ALLOCATEALL, F_PEOFPOSMODE, 0, bytes, 0};
  return ::fcntl(file, F_PREALLOCATE, &room) == 0 || errno == ENOTSUP;
}

// fsync leaves data in the disk's own cache. Network shares support nothing stronger.
bool sync(int file) { return ::fcntl(file, F_FULLFSYNC) == 0 || ::fsync(file) == 0; }

bool begin_to_put_away(int, int64_t, int64_t) { return true; }

// The pages stay for as long as the system likes.
bool put_away(int file, int64_t, int64_t) { return ::fsync(file) == 0; }

void expect_no_order(int file) { (void)::fcntl(file, F_RDAHEAD, 0); }

void will_need(int file, int64_t offset, int64_t bytes) {
  radvisory range{offset, static_cast<int>(std::min<int64_t>(bytes, std::numeric_limits<int>::max()))};
  (void)::fcntl(file, F_RDADVISE, &range);
}

void drop(int, int64_t, int64_t) {}

bool look_up_pages(const void* data, int64_t bytes, unsigned char* pages) {
  return ::mincore(const_cast<void*>(data), static_cast<size_t>(bytes), reinterpret_cast<char*>(pages)) == 0;
}

}  // namespace lowrank::os::descriptor
