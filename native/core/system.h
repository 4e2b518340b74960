// Calls of the operating system that core makes. os/ defines them, one file per system, so that core includes nothing
// of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace lowrank::system {

/// Pages of this process's own, all zero; they take memory as they are touched. Null where the system refuses.
void* map_zeros(int64_t bytes);
/// Gives the memory of such pages back: they read as zero again. False where the system refuses.
bool clear_zeros(void* data, int64_t bytes);
void unmap_zeros(void* data, int64_t bytes);

/// Sleeps while `value` is `expected`. May return early, so the caller looks again.
void wait(const std::atomic<uint32_t>& value, uint32_t expected);
/// Wakes the threads that wait for `value`, which has changed.
void wake_all(std::atomic<uint32_t>& value);

}  // namespace lowrank::system
