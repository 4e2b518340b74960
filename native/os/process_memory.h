// Memory of this process as reported by the operating system.
#pragma once

#include <cstdint>

namespace lowrank::os {

/// In bytes. Linux: `resident` is VmRSS = anonymous + file-backed + shared pages; `peak` is VmHWM, its maximum since
/// the start or the last reset; both include mapped files. macOS: the same from TASK_VM_INFO, whose internal and
/// external pages are the last two. Windows: the working set and its peak; `anonymous` is the committed memory,
/// resident or not, and `file_backed` is 0.
struct ResidentMemory {
  int64_t resident = 0;
  int64_t peak = 0;
  int64_t anonymous = 0;
  int64_t file_backed = 0;
};

ResidentMemory resident_memory();

/// Resets the peak to the current value; false if unsupported, as outside Linux.
bool reset_peak_resident();

/// Returns freed memory that malloc retains to the system, such as arenas of exited threads. Does nothing if the
/// allocator does not support it.
void trim_heap();

}  // namespace lowrank::os
