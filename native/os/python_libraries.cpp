#include "os/python_libraries.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace lowrank::os {

std::vector<std::string> python_libraries(std::span<const char* const> names, std::span<const char* const> folders) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> found;
  const auto add = [&](const fs::path& folder) {
    for (const char* name : names)
      if (fs::exists(folder / name, ignored)) found.push_back((folder / name).string());
  };
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const char* const value = std::getenv(variable);
    if (value == nullptr || *value == 0) continue;
    const fs::path prefix = value;
    add(prefix / "lib");
    std::vector<fs::path> packages = {prefix / "Lib" / "site-packages"};
    for (fs::directory_iterator python(prefix / "lib", ignored), end; python != end; python.increment(ignored))
      if (python->path().filename().string().starts_with("python"))
        packages.push_back(python->path() / "site-packages");
    std::sort(packages.begin(), packages.end());
    for (const fs::path& package : packages)
      for (const char* folder : folders) add(package / folder);
  }
  return found;
}

}  // namespace lowrank::os
