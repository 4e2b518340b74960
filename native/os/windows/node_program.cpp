// Binds the addon's Node-API calls to the program that loaded it: node.exe, or one of another name such as
// electron.exe, bun.exe or a renamed node.exe.
#include "os/windows/system.h"

// After the header that it builds on.
#include <delayimp.h>

namespace {

FARPROC WINAPI find_node(unsigned event, DelayLoadInfo* info) {
  if (event != dliNotePreLoadLibrary || _stricmp(info->szDll, "node.exe") != 0) return nullptr;
  // Programs may keep Node in a library of its own.
  const HMODULE library = GetModuleHandleW(L"libnode.dll");
  return reinterpret_cast<FARPROC>(library != nullptr ? library : GetModuleHandleW(nullptr));
}

}  // namespace

extern "C" {
PfnDliHook __pfnDliNotifyHook2 = find_node;
}
