// Counter-based random numbers, identical on all devices.
#pragma once

#include <cstdint>

namespace lowrank {

/// A bijective mixer whose outputs for successive inputs are statistically independent (splitmix64's finalizer).
uint64_t mix(uint64_t x);
/// A number in (0, 1), determined by key and index.
double draw(uint64_t key, uint64_t index);
/// 32 uniform bits, determined by key and index: two of them are the halves of one draw by a mixed key.
uint32_t counter_hash(uint64_t key, uint64_t index);

}  // namespace lowrank
