#include "os/library.h"

#include "os/windows/system.h"

namespace lowrank::os {

Library::Library(const std::string& name, Symbols) {
  handle_ = LoadLibraryW(wide(name).c_str());
  if (handle_ == nullptr) reason_ = name + ": " + os::reason();
}

void* Library::find(const char* name) const {
  if (handle_ == nullptr) return nullptr;
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_), name));
}

std::string versioned_library(const std::string&, int) { return ""; }

void keep_loaded() {
  static const wchar_t inside = 0;
  HMODULE library = nullptr;
  (void)GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, &inside, &library);
}

}  // namespace lowrank::os
