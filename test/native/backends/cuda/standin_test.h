// The stand-in driver for tests: its environment, and packs that name its kernels.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/pack.h"
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

/// What was left when the last context was released.
inline std::string standin_leaks() {
  const os::Library library(standin_library());
  const auto leaks = reinterpret_cast<const char* (*)()>(library.find("lowrank_standin_leaks"));
  return leaks == nullptr ? "the library does not say" : leaks();
}

/// A pack for tests, stored without compression.
class PackBytes {
 public:
  struct Image {
    uint32_t module, sm;
    bool ptx;
    std::string bytes;
  };
  struct Kernel {
    std::string name;
    uint32_t module;
  };
  static std::vector<uint8_t> of(const std::vector<Image>& images, const std::vector<Kernel>& kernels) {
    std::string rows, data;
    const size_t begin = 32 + 64 * (images.size() + kernels.size());
    for (const Image& image : images) {
      std::string stored = {1};
      put(stored, image.bytes.size(), 2);
      put(stored, ~image.bytes.size(), 2);
      stored += image.bytes;
      put(rows, image.module, 4);
      put(rows, image.sm, 4);
      put(rows, image.ptx ? 1 : 0, 4);
      put(rows, crc(image.bytes), 4);
      put(rows, begin + data.size(), 8);
      put(rows, stored.size(), 8);
      put(rows, image.bytes.size(), 8);
      rows += padded("module" + std::to_string(image.module), 24);
      data += stored;
    }
    for (const Kernel& kernel : kernels) {
      rows += padded(kernel.name, 60);
      put(rows, kernel.module, 4);
    }
    std::string file = "LOWRCUDA";
    put(file, 1, 4);
    put(file, images.size(), 4);
    put(file, kernels.size(), 4);
    put(file, crc(rows), 4);
    put(file, begin + data.size(), 8);
    file += rows + data;
    return {file.begin(), file.end()};
  }

 private:
  static uint32_t crc(const std::string& text) {
    return cuda::crc32(reinterpret_cast<const uint8_t*>(text.data()), static_cast<int64_t>(text.size()));
  }
  static void put(std::string& to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to += static_cast<char>(value >> (8 * i));
  }
  static std::string padded(std::string text, size_t bytes) {
    text.resize(bytes);
    return text;
  }
};

}  // namespace lowrank::test
