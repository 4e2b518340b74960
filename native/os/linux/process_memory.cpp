#include "os/process_memory.h"

#include <cstdlib>
#include <fstream>
#include <string>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace lowrank::os {

ResidentMemory resident_memory() {
  ResidentMemory memory;
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    // Lines such as "VmRSS:     12345 kB".
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, colon);
    int64_t* field = key == "VmRSS"     ? &memory.resident
                     : key == "VmHWM"   ? &memory.peak
                     : key == "RssAnon" ? &memory.anonymous
                     : key == "RssFile" ? &memory.file_backed
                                        : nullptr;
    if (field != nullptr) *field = std::stoll(line.substr(colon + 1)) * 1024;
  }
  return memory;
}

bool reset_peak_resident() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5";
  clear.flush();
  return clear.good();
}

void trim_heap() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace lowrank::os
