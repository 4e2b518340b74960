// CPU cores that this process may use.
#pragma once

#include <vector>

namespace lowrank::os {

/// At least 1. Linux: the affinity mask or the CPU quota of the cgroup, whichever is smaller. Windows: the affinity
/// mask. macOS: the performance cores, since work is divided evenly and would wait for an efficiency core.
int usable_cores();

/// Core numbers in the affinity mask if the system reports it, else those below `usable_cores`.
std::vector<int> allowed_cores();

}  // namespace lowrank::os
