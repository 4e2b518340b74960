#include "os/arm_processor.h"

#include <sys/sysctl.h>

namespace lowrank::os {

bool multiplies_bf16() {
  int has = 0;
  size_t size = sizeof(has);
  return ::sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has != 0;
}

}  // namespace lowrank::os
