#include "os/cores.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <thread>

#include "os/windows/system.h"

namespace lowrank::os {

int usable_cores() {
  DWORD_PTR own = 0, all = 0;
  // Both are zero for a process that runs in several processor groups, each of 64 cores at most.
  if (GetProcessAffinityMask(GetCurrentProcess(), &own, &all) != 0 && own != 0) return std::popcount(uint64_t{own});
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

std::vector<int> allowed_cores() {
  std::vector<int> cores(static_cast<size_t>(usable_cores()));
  std::iota(cores.begin(), cores.end(), 0);
  return cores;
}

}  // namespace lowrank::os
