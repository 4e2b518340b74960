// Rows of a table that may not be in memory.
#pragma once

#include <algorithm>

#include "backends/cpu/table.h"
#include "device/weight_store.h"

namespace lowrank::cpu {

/// body(first, last) for stretches of the tokens, whose rows of the table are in memory meanwhile.
template <class Body>
void for_gathered(const Cpu& cpu, const DecodeRows& k, Body&& body) {
  const int64_t at_once = k.table.weight < 0 ? 0 : cpu.weights->gathered_at_once(k.table.weight);
  if (at_once == 0) return body(0, k.tokens);
  for (int64_t first = 0; first < k.tokens; first += at_once) {
    const int64_t count = std::min(at_once, k.tokens - first);
    const auto held = cpu.weights->gather(k.table.weight, {host(k.ids) + first, static_cast<size_t>(count)});
    body(first, first + count);
  }
}

}  // namespace lowrank::cpu
