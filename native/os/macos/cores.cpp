#include "os/cores.h"

#include <sys/sysctl.h>

#include <algorithm>
#include <numeric>
#include <thread>

namespace lowrank::os {

int usable_cores() {
  int cores = 0;
  size_t size = sizeof(cores);
  // Level 0 is the fastest kind of core. Intel's processors and older systems have no levels.
  if (::sysctlbyname("hw.perflevel0.physicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

std::vector<int> allowed_cores() {
  std::vector<int> cores(static_cast<size_t>(usable_cores()));
  std::iota(cores.begin(), cores.end(), 0);
  return cores;
}

}  // namespace lowrank::os
