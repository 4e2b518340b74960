// Pages that were read can be given back.
#include "os/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "check.h"
#include "temporary_file.h"

using namespace lowrank;

TEST("dropped pages leave the page cache and can be read again") {
  const int64_t bytes = int64_t{4} << 20;
  const test::TemporaryFile written(std::vector<uint8_t>(bytes, 7));
  const int descriptor = ::open(written.path().c_str(), O_RDONLY);
  ::fsync(descriptor);  // only clean pages can be dropped
  void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  const auto cached = [&] {
    std::vector<unsigned char> pages(bytes / ::sysconf(_SC_PAGESIZE));
    ::mincore(map, bytes, pages.data());
    int64_t count = 0;
    for (const unsigned char page : pages) count += page & 1;
    return count;
  };
  std::vector<uint8_t> content(bytes);
  const os::File file(written.path());
  file.read(content.data(), bytes, 0);
  const int64_t before = cached();
  file.drop(0, bytes);
  const int64_t after = cached();
  ::munmap(map, bytes);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
  file.read(content.data(), bytes, 0);
  CHECK(content == std::vector<uint8_t>(bytes, 7));
  if (before > 0 && after == before) SKIP("this file system keeps its pages in memory");
  CHECK_LE(after, before / 8);
}
