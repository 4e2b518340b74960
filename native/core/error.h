// The one exception type of the native side. native/addon turns it into a JavaScript error with the same `code`
// (see lib/core/errors.ts for the list); nothing below the addon knows JavaScript, and nothing here exits the process.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace lowrank {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  /// Stable name of the cause, e.g. "SHAPE", "FILE_FORMAT", "OUT_OF_MEMORY", "UNSUPPORTED", "INTERNAL".
  const char* code() const noexcept { return code_; }

 private:
  const char* code_;
};

/// Builds a message from its parts and throws: `fail("SHAPE", "linear at ", path, ": weight is ", n)`.
template <class... Parts>
[[noreturn]] void fail(const char* code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(code, text.str());
}

}  // namespace lowrank
