// Libraries that Python packages bring along.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace lowrank::os {

/// Paths of the files with these names in the active Python environments (VIRTUAL_ENV, CONDA_PREFIX).
/// @param folders in site-packages; the folder of conda's own packages comes first
std::vector<std::string> python_libraries(std::span<const char* const> names, std::span<const char* const> folders);

}  // namespace lowrank::os
