// Memory of this process as the operating system counts it.
#pragma once

#include <cstdint>

namespace lowrank::os {

/// Bytes. Linux: `resident` is VmRSS = anonymous + file-backed + shared pages, `peak` VmHWM, its maximum since the start
/// or the last reset; mapped files count in both. macOS: the same of TASK_VM_INFO, whose internal and external pages are the
/// last two. Windows: the working set and its peak; `anonymous` is what the process has committed, in memory or not, and
/// `file_backed` stays 0.
struct ResidentMemory {
  int64_t resident = 0;
  int64_t peak = 0;
  int64_t anonymous = 0;
  int64_t file_backed = 0;
};

ResidentMemory resident_memory();

/// Sets the peak back to what is resident now; false where the system does not allow it, as outside of Linux.
bool reset_peak_resident();

/// Gives the system back what malloc keeps of memory that was freed: threads that are gone leave some in arenas of their
/// own. Nothing where the allocator has no such call.
void trim_heap();

}  // namespace lowrank::os
