// Operating system calls used by core. os/ implements them, one file per system, so that core includes no system
// headers.
#pragma once

#include <atomic>
#include <cstdint>

namespace lowrank::system {

/// Private zeroed pages, which use memory only once touched. Null if the system refuses.
void* map_zeros(int64_t bytes);
/// Returns the memory of such pages, which then read as zero. False if the system refuses.
bool clear_zeros(void* data, int64_t bytes);
void unmap_zeros(void* data, int64_t bytes);

/// Sleeps while `value` equals `expected`. May return early, so the caller must check again.
void wait(const std::atomic<uint32_t>& value, uint32_t expected);
/// Wakes the threads waiting for `value`, which has changed.
void wake_all(std::atomic<uint32_t>& value);

}  // namespace lowrank::system
