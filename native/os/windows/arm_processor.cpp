#include "os/arm_processor.h"

namespace lowrank::os {

bool multiplies_bf16() { return false; }

}  // namespace lowrank::os
