#include "os/library.h"

namespace lowrank::os {

std::string versioned_library(const std::string& stem, int version) {
  return "lib" + stem + ".so." + std::to_string(version);
}

void keep_loaded() {}

}  // namespace lowrank::os
