#include "os/library.h"

#include "os/windows/system.h"

namespace lowrank::os {

void keep_loaded() {
  static const wchar_t inside = 0;
  HMODULE library = nullptr;
  (void)GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, &inside, &library);
}

}  // namespace lowrank::os
