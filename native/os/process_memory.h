// What the operating system says about this process's memory. Linux keeps the numbers in /proc/self/status; elsewhere
// they read as zero and the reset reports failure.
#pragma once

#include <cstdint>

namespace lowrank::os {

/// Bytes. `resident` is VmRSS = anonymous + file-backed + shared pages; `peak` is VmHWM, its maximum since the start or
/// the last reset. Mapped files count in both.
struct ResidentMemory {
  int64_t resident = 0;
  int64_t peak = 0;
  int64_t anonymous = 0;
  int64_t file_backed = 0;
};

ResidentMemory resident_memory();

/// Sets the peak back to what is resident now; false where the system does not allow it.
bool reset_peak_resident();

/// Gives the system back what malloc keeps of memory that was freed: threads that are gone leave some in arenas of their
/// own. Nothing where the allocator has no such call.
void trim_heap();

}  // namespace lowrank::os
