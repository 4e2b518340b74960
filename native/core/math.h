// Integer arithmetic of sizes.
#pragma once

#include <cstdint>

namespace lowrank {

/// The next multiple of `unit`.
constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace lowrank
