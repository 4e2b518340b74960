// A thread that computes asks for long stretches, and for nothing else.
#include "os/scheduling.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

#include "check.h"

using namespace lowrank;

#if defined(SYS_sched_getattr)

TEST("a thread that computes keeps its policy and its share, and asks for longer slices") {
  // Words of struct sched_attr: size and policy, flags, nice and priority, then the slice.
  uint64_t before[6] = {}, after[6] = {};
  std::thread([&] {
    if (syscall(SYS_sched_getattr, 0, before, sizeof(before), 0) != 0) return;
    os::prefer_long_slices();
    syscall(SYS_sched_getattr, 0, after, sizeof(after), 0);
  }).join();
  if (after[0] == 0) SKIP("this system does not say how threads are scheduled");
  for (int word = 0; word < 3; ++word) CHECK_EQ(after[word], before[word]);
  if (before[3] == 0) SKIP("threads have no slices of their own before Linux 6.12");
  CHECK(after[3] > before[3]);
}

#endif
