#include "os/process_memory.h"

#include "os/windows/system.h"

// After the header that it builds on.
#include <malloc.h>
#include <psapi.h>

namespace lowrank::os {

ResidentMemory resident_memory() {
  ResidentMemory memory;
  PROCESS_MEMORY_COUNTERS counters{};
  if (K32GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof(counters)) != 0) {
    memory.resident = static_cast<int64_t>(counters.WorkingSetSize);
    memory.peak = static_cast<int64_t>(counters.PeakWorkingSetSize);
    memory.anonymous = static_cast<int64_t>(counters.PagefileUsage);
  }
  return memory;
}

bool reset_peak_resident() { return false; }

void trim_heap() { (void)::_heapmin(); }

}  // namespace lowrank::os
