#include "os/library.h"

namespace lowrank::os {

void keep_loaded() {}

}  // namespace lowrank::os
