#include "os/scheduling.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace lowrank::os {

#if defined(__linux__) && defined(SYS_sched_setattr) && defined(SYS_sched_getattr)

namespace {

/// As sched_setattr(2) takes it; C libraries declare it only of late.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0;  // the time slice of ordinary threads, in nanoseconds
  uint64_t deadline = 0;
  uint64_t period = 0;
};

constexpr uint64_t kSlice = 20'000'000;

}  // namespace

void prefer_long_slices() {
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  if (attributes.policy != 0) return;  // another policy was chosen
  attributes.flags = 0;
  attributes.runtime = kSlice;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

#else

void prefer_long_slices() {}

#endif

}  // namespace lowrank::os
