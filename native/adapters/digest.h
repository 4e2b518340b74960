// A hash of an adapter's values, by which processes that train together see that theirs are the same.
#pragma once

#include <cstdint>

#include "adapters/adapter.h"
#include "core/pool.h"

namespace lowrank {

/// Digest of all values, bit by bit, whatever the number of threads.
uint64_t digest_of(Pool& pool, Adapter& adapter);

}  // namespace lowrank
