// Warnings to users about work that goes on: added where they arise, and read by the addon.
#pragma once

#include <string>
#include <vector>

namespace lowrank {

/// Says something once in this process.
void remark(const std::string& text);
/// Warnings since the last call.
std::vector<std::string> take_remarks();

}  // namespace lowrank
