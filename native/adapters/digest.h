// A hash of an adapter's values, with which processes that train together check that theirs are identical.
#pragma once

#include <cstdint>

#include "adapters/adapter.h"
#include "core/pool.h"

namespace lowrank {

/// Bit-exact digest of all values, independent of the number of threads.
uint64_t digest_of(Pool& pool, Adapter& adapter);

}  // namespace lowrank
