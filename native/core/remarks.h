// Warnings to users about ongoing work: added where they arise, and read by the addon.
#pragma once

#include <string>
#include <vector>

namespace lowrank {

/// Adds a warning, once per process.
void remark(const std::string& text);
/// Warnings since the last call.
std::vector<std::string> take_remarks();

}  // namespace lowrank
