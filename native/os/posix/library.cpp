#include "os/library.h"

#include <dlfcn.h>

namespace lowrank::os {

Library::Library(const std::string& name, Symbols symbols)
    : handle_(::dlopen(name.c_str(), RTLD_NOW | (symbols == Symbols::shared ? RTLD_GLOBAL : RTLD_LOCAL))) {
  if (handle_ != nullptr) return;
  const char* const why = ::dlerror();
  reason_ = why == nullptr ? name + ": cannot be opened" : why;
}

void* Library::find(const char* name) const { return handle_ == nullptr ? nullptr : ::dlsym(handle_, name); }

}  // namespace lowrank::os
