#include "os/arm_processor.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace lowrank::os {

bool multiplies_bf16() {
#if defined(__aarch64__)
  constexpr unsigned long kBf16 = 1ul << 14;  // HWCAP2_BF16, of Linux 5.6
  return (::getauxval(AT_HWCAP2) & kBf16) != 0;
#else
  return false;
#endif
}

}  // namespace lowrank::os
