// Sizes in the words of a message, as `formatBytes` of lib/core/bytes.ts writes them.
#pragma once

#include <cstdint>
#include <string>

namespace lowrank {

/// `1.40 GiB`, `512 B`.
std::string readable(int64_t bytes);

}  // namespace lowrank
