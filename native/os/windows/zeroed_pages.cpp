#include "core/system.h"
#include "os/windows/system.h"

namespace lowrank::system {

void* map_zeros(int64_t bytes) {
  return VirtualAlloc(nullptr, static_cast<SIZE_T>(bytes), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

bool clear_zeros(void* data, int64_t bytes) {
  return VirtualFree(data, static_cast<SIZE_T>(bytes), MEM_DECOMMIT) != 0 &&
         VirtualAlloc(data, static_cast<SIZE_T>(bytes), MEM_COMMIT, PAGE_READWRITE) != nullptr;
}

void unmap_zeros(void* data, int64_t) { VirtualFree(data, 0, MEM_RELEASE); }

}  // namespace lowrank::system
