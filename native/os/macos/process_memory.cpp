#include "os/process_memory.h"

#include <mach/mach.h>
#include <malloc/malloc.h>

namespace lowrank::os {

ResidentMemory resident_memory() {
  ResidentMemory memory;
  task_vm_info_data_t info{};
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  if (::task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) == KERN_SUCCESS) {
    memory.resident = static_cast<int64_t>(info.resident_size);
    memory.peak = static_cast<int64_t>(info.resident_size_peak);
    memory.anonymous = static_cast<int64_t>(info.internal);
    memory.file_backed = static_cast<int64_t>(info.external);
  }
  return memory;
}

bool reset_peak_resident() { return false; }

void trim_heap() { ::malloc_zone_pressure_relief(nullptr, 0); }

}  // namespace lowrank::os
