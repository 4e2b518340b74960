// windows.h, and what the files of this folder share.
#pragma once

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00  // Windows 10, as Node asks for
#endif
#include <windows.h>

#include <cstdint>
#include <string>

namespace lowrank::os {

/// Reason of the last call that failed on this thread, in the system's words.
std::string reason();

/// A path in UTF-8, whatever the code page of the process, as the system takes it. One beyond MAX_PATH gets the prefix
/// that lifts this limit.
std::wstring wide(const std::string& path);

}  // namespace lowrank::os
