#include "os/library.h"

#include <dlfcn.h>

namespace lowrank::os {

std::string versioned_library(const std::string& stem, int version) {
  return "lib" + stem + "." + std::to_string(version) + ".dylib";
}

void keep_loaded() {
  static const char inside = 0;
  Dl_info library{};
  if (::dladdr(&inside, &library) != 0) (void)::dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

}  // namespace lowrank::os
