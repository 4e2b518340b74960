#include <sys/mman.h>

#include "core/system.h"

namespace lowrank::system {
namespace {

void* map(void* at, int64_t bytes, int how) {
  void* const data =
      ::mmap(at, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

}  // namespace

void* map_zeros(int64_t bytes) { return map(nullptr, bytes, 0); }

bool clear_zeros(void* data, int64_t bytes) { return map(data, bytes, MAP_FIXED) != nullptr; }

void unmap_zeros(void* data, int64_t bytes) { ::munmap(data, static_cast<size_t>(bytes)); }

}  // namespace lowrank::system
