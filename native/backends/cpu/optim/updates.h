// How updates of optimizers are shared out among the threads: each element is updated alike wherever a stretch begins,
// of 8-bit state each block.
#pragma once

#include <functional>
#include <span>

#include "backends/cpu/table.h"
#include "quant/dynamic.h"

namespace lowrank::cpu {

/// Numbers of state in memory: floats, or codes.
struct State {
  float* floats;
  DynamicCodes codes;
};

/// Updates elements of a piece that lie side by side.
using Rule = std::function<void(const UpdatePiece& piece, int64_t count, const float* gradient, const State& m,
                                const State& v, float* p)>;
/// Calls it for stretches of all pieces.
void for_shares(Pool& pool, std::span<const UpdatePiece> pieces, const Rule& rule);

/// Calls body(begin, size) for each block of 8-bit state.
template <class Body>
void for_state_blocks(int64_t count, Body&& body) {
  for (int64_t begin = 0; begin < count; begin += kDynamicBlock)
    body(begin, count - begin < kDynamicBlock ? count - begin : kDynamicBlock);
}

}  // namespace lowrank::cpu
