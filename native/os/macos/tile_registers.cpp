#include "os/tile_registers.h"

namespace lowrank::os {

bool request_tile_registers() { return false; }

}  // namespace lowrank::os
