// Code shared by the levels of the gated delta rule: its gates, and the layout of the workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/math.h"
#include "kernels/delta_rule.h"

namespace lowrank::cpu {

/// Gates of a head at a token: sigmoid(beta), e^g, and the slope of g in alpha.
struct DeltaGates {
  double beta, decay, slope;
};
DeltaGates delta_gates(const DeltaInputs& in, int64_t row, int64_t head);

/// Added to the squared norms of queries and keys.
inline constexpr double kDeltaEpsilon = 1e-6;

/// Columns of a state whose backward pass is computed at once, at most.
inline constexpr int64_t kDeltaColumns = 32;
constexpr int64_t padded_value_dim(int64_t value_dim) { return round_up(value_dim, 16); }

/// Floats of each thread: the state of a head, and queries, keys, values, and outputs of a chunk.
constexpr int64_t delta_thread_floats(int64_t key_dim, int64_t value_dim) {
  const int64_t padded = padded_value_dim(value_dim);
  return round_up(key_dim * padded + kDeltaTokens * (2 * key_dim + 2 * padded + 3), 16);
}
/// The same with gradients, and the states of some columns after each token of a chunk.
constexpr int64_t delta_backward_thread_floats(int64_t group, int64_t key_dim, int64_t value_dim) {
  const int64_t padded = padded_value_dim(value_dim);
  return round_up(group * key_dim * padded + (kDeltaTokens + 1) * key_dim * kDeltaColumns +
                      kDeltaTokens * (4 * key_dim + 4 * padded + 8),
                  16);
}

}  // namespace lowrank::cpu
