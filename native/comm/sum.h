// Sums over ranks. Each element is summed in rank order by one rank, so a given number of ranks always produces the
// same bits, identical on all ranks.
#pragma once

#include <cstdint>

#include "comm/comm.h"

namespace lowrank {

/// Memory that a sum needs in addition to its values.
int64_t sum_bytes(int ranks);

/// In place. Every rank must pass the same number of values.
void sum_over_ranks(Collective& comm, float* values, int64_t count);
void sum_over_ranks(Collective& comm, double* values, int64_t count);

}  // namespace lowrank
