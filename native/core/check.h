// LOWRANK_CHECK: what is computed twice and compared while a program runs.
#pragma once

#include <cstdlib>
#include <string>

namespace lowrank {

/// "1": every step; the name of a kind of step, such as "attention": only those; "operands": what kernels touch; "terms":
/// outputs with adapters. Empty: nothing.
inline const std::string& check_asked_for() {
  static const std::string asked = [] {
    const char* const text = std::getenv("LOWRANK_CHECK");
    return std::string(text == nullptr || std::string(text) == "0" ? "" : text);
  }();
  return asked;
}

}  // namespace lowrank
