// The library that this code is in.
#pragma once

namespace lowrank::os {

/// Keeps it loaded until the process ends, whoever closes it: a worker thread that ends closes the addon, and the engine
/// thread may still be running in it. On Linux the linker says so in the file itself.
void keep_loaded();

}  // namespace lowrank::os
