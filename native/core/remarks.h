// What users should know of work that goes on all the same: said by whoever finds it, and read by the addon.
#pragma once

#include <string>
#include <vector>

namespace lowrank {

/// Says something once in this process.
void remark(const std::string& text);
/// What was said since the last call.
std::vector<std::string> take_remarks();

}  // namespace lowrank
