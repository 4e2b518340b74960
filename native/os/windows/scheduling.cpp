#include "os/scheduling.h"

namespace lowrank::os {

void prefer_long_slices() {}

}  // namespace lowrank::os
