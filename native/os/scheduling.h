// Scheduling hints for threads.
#pragma once

namespace lowrank::os {

/// For a thread that computes: asks to run in long stretches. On Linux from 6.12 on, threads with shorter ones, which are all
/// others, then run as soon as they have something to do instead of at the end of the stretch, and none loses its share.
/// Nothing elsewhere.
void prefer_long_slices();

}  // namespace lowrank::os
