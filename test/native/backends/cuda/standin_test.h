// The stand-in driver for tests: its environment, and what it left behind.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "backends/cuda/driver/pack_bytes.h"
#include "check.h"
#include "os/library.h"
#include "temporary_file.h"

namespace lowrank::test {

/// Variables of the environment for the length of a test.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<const char*, std::string>> values) {
    for (const auto& [name, value] : values) set(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : before_) put(name, value);
  }
  void set(const std::string& name, const std::string& value) {
    const char* const now = std::getenv(name.c_str());
    before_.emplace(name, now == nullptr ? std::nullopt : std::optional<std::string>(now));
    put(name, value);
  }

 private:
  static void put(const std::string& name, const std::optional<std::string>& value) {
#if defined(_WIN32)
    _putenv_s(name.c_str(), value.value_or("").c_str());
#else
    if (value)
      setenv(name.c_str(), value->c_str(), 1);
    else
      unsetenv(name.c_str());
#endif
  }
  std::map<std::string, std::optional<std::string>> before_;
};

/// The stand-in driver's library; skips the test where there is none.
inline std::string standin_library() {
#if defined(LOWRANK_CUDA_STANDIN)
  if (std::filesystem::exists(LOWRANK_CUDA_STANDIN)) return LOWRANK_CUDA_STANDIN;
  SKIP(std::string("there is no ") + LOWRANK_CUDA_STANDIN);
#else
  SKIP("the stand-in driver is for Linux on x64");
#endif
}

/// Leaks that were found when the last context was released.
inline std::string standin_leaks() {
  const os::Library library(standin_library());
  const auto leaks = reinterpret_cast<const char* (*)()>(library.find("lowrank_standin_leaks"));
  return leaks == nullptr ? "the library does not say" : leaks();
}

}  // namespace lowrank::test
