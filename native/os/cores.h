// Cores of the machine that this process may compute on.
#pragma once

#include <vector>

namespace lowrank::os {

/// At least 1. Linux: the affinity mask or the CPU quota of the cgroup, whichever is smaller. Windows: the affinity mask.
/// macOS: the performance cores, since work is shared out evenly and an efficiency core would be waited for.
int usable_cores();

/// Numbers of the cores that the affinity mask has, where the system says so, else those below `usable_cores`.
std::vector<int> allowed_cores();

}  // namespace lowrank::os
