// Pages of a mapped file in memory: those that were requested, exactly, as the system counts them.
#include "os/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "check.h"
#include "temporary_file.h"

using namespace lowrank;

namespace {

/// Only clean pages can be given back.
void sync(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

TEST("of a mapped file what is loaded is in memory and what is dropped is not") {
  if (std::getenv("LOWRANK_EMULATED") != nullptr) SKIP("an emulator need not take advice about memory");
  const int64_t page = os::page_bytes(), pages = 2000;
  const std::vector<uint8_t> content = test::counted(pages * page - 7);
  const test::TemporaryFile written(content);
  sync(written.path());
  const os::MappedFile file(written.path());
  if (file.lives_in_memory() || file.resident_bytes() < 0) SKIP("this file system keeps its pages in memory");
  file.expect_no_order();
  file.drop(0, file.bytes());
  CHECK_EQ(file.resident_bytes(), 0);
  file.load(100 * page, 300 * page);
  CHECK_EQ(file.resident_bytes(), 300 * page);
  // Touching what was loaded brings in nothing else.
  CHECK(std::memcmp(file.data() + 100 * page, content.data() + 100 * page, 300 * page) == 0);
  CHECK_EQ(file.resident_bytes(), 300 * page);
  // A page that reaches out of the range stays.
  file.drop(100 * page + 1, 200 * page);
  CHECK_EQ(file.resident_bytes(), 101 * page);
  // A page that is touched without being loaded comes in alone.
  CHECK_EQ(static_cast<uint8_t>(file.data()[1000 * page]), content[1000 * page]);
  CHECK_EQ(file.resident_bytes(), 102 * page);
  file.load(0, file.bytes());
  CHECK_EQ(file.resident_bytes(), pages * page);
  file.drop(0, file.bytes());
  CHECK_EQ(file.resident_bytes(), 0);
  CHECK(std::memcmp(file.data(), content.data(), content.size()) == 0);
}

TEST("a mapped file that is cut short reads as zeros from there on, and is named") {
  const int64_t page = os::page_bytes();
  const test::TemporaryFile written(test::counted(8 * page));
  const os::MappedFile file(written.path());
  const test::TemporaryFile other(test::counted(2 * page));
  const os::MappedFile untouched(other.path());
  file.expect_whole();
  CHECK_EQ(::truncate(written.path().c_str(), 3 * page), 0);
  // Not touched yet, so the size alone tells.
  CHECK_THROWS(file.expect_whole(), "was truncated while it was in use: it had");
  const auto sum = [&](int64_t begin, int64_t end) {
    int64_t total = 0;
    for (int64_t i = begin; i < end; ++i) total += static_cast<int>(file.data()[i]);
    return total;
  };
  CHECK(sum(0, 3 * page) > 0);
  std::vector<std::thread> threads;
  std::atomic<int> zeros{0};
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { zeros += sum(3 * page, 8 * page) == 0; });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(zeros.load(), 8);
  // Long again, but with pages that were never its own.
  CHECK_EQ(::truncate(written.path().c_str(), 8 * page), 0);
  CHECK_THROWS(file.expect_whole(), "could not be read while it was in use");
  untouched.expect_whole();
}

TEST("a range that was guarded once is used again and whole again") {
  const int64_t page = os::page_bytes();
  for (int round = 0; round < 3; ++round) {
    const test::TemporaryFile written(test::counted(2 * page));
    const os::MappedFile file(written.path());
    file.expect_whole();
    CHECK_EQ(::truncate(written.path().c_str(), 0), 0);
    CHECK(file.data()[page] == std::byte{0});
    CHECK_THROWS(file.expect_whole(), "was truncated");
  }
}

TEST("a bus error in a mapping that is not guarded ends the process as before") {
  const int64_t page = os::page_bytes();
  const test::TemporaryFile ours(test::counted(page)), foreign(test::counted(2 * page));
  const os::MappedFile guarded(ours.path());  // so that the handler is there
  int status = 0;
  for (const bool sent : {false, true}) {
    const pid_t victim = ::fork();
    if (victim == 0) {
      const rlimit none{0, 0};
      ::setrlimit(RLIMIT_CORE, &none);
      if (sent) ::kill(::getpid(), SIGBUS);
      const int descriptor = ::open(foreign.path().c_str(), O_RDONLY);
      const auto* data =
          static_cast<const volatile char*>(::mmap(nullptr, 2 * page, PROT_READ, MAP_SHARED, descriptor, 0));
      if (::truncate(foreign.path().c_str(), 0) == 0 && data[page] == 0) ::_exit(3);
      ::_exit(4);
    }
    ::waitpid(victim, &status, 0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    CHECK(WIFSIGNALED(status) || (WEXITSTATUS(status) != 3 && WEXITSTATUS(status) != 4));  // it tells, and exits
#else
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGBUS);
#endif
  }
}
