// Broadcasts messages of any length from each rank to all.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/comm.h"

namespace lowrank {

/// The messages of all ranks, in rank order, once each has sent one.
std::vector<std::vector<uint8_t>> meet(Collective& comm, const std::vector<uint8_t>& own);

}  // namespace lowrank
