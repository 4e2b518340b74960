// The standard library sleeps in a futex on Linux and in its equivalent on macOS.
#include "core/system.h"

namespace lowrank::system {

void wait(const std::atomic<uint32_t>& value, uint32_t expected) { value.wait(expected, std::memory_order_acquire); }

void wake_all(std::atomic<uint32_t>& value) { value.notify_all(); }

}  // namespace lowrank::system
