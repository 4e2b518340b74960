// Cores of the machine that this process may compute on.
#pragma once

namespace lowrank::os {

/// At least 1. Linux: the affinity mask or the CPU quota of the cgroup, whichever is smaller. Windows: the affinity mask.
/// macOS: the performance cores, since work is shared out evenly and an efficiency core would be waited for.
int usable_cores();

}  // namespace lowrank::os
