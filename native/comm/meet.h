// Messages of any length from each rank to all.
#pragma once

#include <cstdint>
#include <vector>

#include "comm/comm.h"

namespace lowrank {

/// What each rank says, in the order of ranks, when all have said something.
std::vector<std::vector<uint8_t>> meet(Comm& comm, const std::vector<uint8_t>& own);

}  // namespace lowrank
