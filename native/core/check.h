// LOWRANK_CHECK: selects what to compute twice and compare during a run.
#pragma once

#include <cstdlib>
#include <string>

namespace lowrank {

/// "1": every step; the name of a kind of step, such as "attention": only those; "operands": the memory kernels access;
/// "terms": outputs with adapters. Empty: nothing.
inline const std::string& check_asked_for() {
  static const std::string asked = [] {
    const char* const text = std::getenv("LOWRANK_CHECK");
    return std::string(text == nullptr || std::string(text) == "0" ? "" : text);
  }();
  return asked;
}

}  // namespace lowrank
