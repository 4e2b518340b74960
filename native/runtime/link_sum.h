// Sums of gradients over ranks in the memory of their GPUs.
#pragma once

#include <cstdint>

#include "comm/comm.h"
#include "device/link.h"

namespace lowrank {

/// Sums numbers in place, in rank order, with the bits of sum_over_ranks. All ranks must call it; false, with nothing
/// summed, where one of them has too little room. Throws Error("RANKS") when a rank is lost.
/// @param room memory of the device whose contents may change
bool sum_over_link(Comm& comm, Link& link, Ptr<float> values, int64_t count, const Allocation& room);

}  // namespace lowrank
