// Permission to use AMX tile registers, which are off until a process requests them.
#pragma once

namespace lowrank::os {

/// Requests permission for all threads; idempotent. False if the system refuses or does not support it.
bool request_tile_registers();

}  // namespace lowrank::os
