// Scheduling hints for threads.
#pragma once

namespace lowrank::os {

/// For compute threads: requests long time slices. On Linux 6.12 and later, all other threads, with shorter slices,
/// then run as soon as they have work instead of at the end of the slice, and no thread loses its share. No effect
/// elsewhere.
void prefer_long_slices();

}  // namespace lowrank::os
