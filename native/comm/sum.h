// Sums over ranks. Each element is added up in the order of ranks, by one of them, so that a number of ranks always gives the
// same bits, and all ranks have the same.
#pragma once

#include <cstdint>

#include "comm/comm.h"

namespace lowrank {

/// Memory that a sum needs besides its numbers.
int64_t sum_bytes(int ranks);

/// In place. Every rank has to give as many numbers.
void sum_over_ranks(Comm& comm, float* values, int64_t count);
void sum_over_ranks(Comm& comm, double* values, int64_t count);

}  // namespace lowrank
