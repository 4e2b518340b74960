// The library that this code is in, and libraries that are opened at run time.
#pragma once

#include <cstdlib>
#include <string>

namespace lowrank::os {

/// A variable of the environment; empty where it is not set.
inline std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// A library that may not be there. It stays loaded until the process ends.
class Library {
 public:
  /// Users of its symbols: whoever asks `find`, or also libraries that are opened later. Windows makes no difference.
  enum class Symbols { own, shared };

  /// @param name a path, or a name that the system's search finds
  explicit Library(const std::string& name, Symbols symbols = Symbols::own);
  explicit operator bool() const { return handle_ != nullptr; }
  /// The system's reason for not opening it.
  const std::string& reason() const { return reason_; }
  /// Address of a function; null if the library has no function of that name.
  void* find(const char* name) const;

 private:
  void* handle_ = nullptr;
  std::string reason_;
};

/// File name of a library version, such as libmpi.so.40; empty on Windows, where names have no versions.
std::string versioned_library(const std::string& stem, int version);

/// Keeps this library loaded until the process exits: a worker thread that ends would close the addon while the engine
/// thread may still run in it. On Linux the linker marks the file itself.
void keep_loaded();

}  // namespace lowrank::os
