// Not std::atomic::wait: that of libstdc++ 12 loses wake-ups on this system.
#include "core/system.h"
#include "os/windows/system.h"

namespace lowrank::system {

void wait(const std::atomic<uint32_t>& value, uint32_t expected) {
  WaitOnAddress(const_cast<std::atomic<uint32_t>*>(&value), &expected, sizeof(expected), INFINITE);
}

void wake_all(std::atomic<uint32_t>& value) { WakeByAddressAll(&value); }

}  // namespace lowrank::system
