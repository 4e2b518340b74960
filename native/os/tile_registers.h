// Permission to use the tile registers of AMX, which are off until a process asks for them.
#pragma once

namespace lowrank::os {

/// Asks for every thread of the process; asking again is harmless. False where the system refuses or has no such call.
bool request_tile_registers();

}  // namespace lowrank::os
