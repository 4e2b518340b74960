// A micro-batch: checked against a plan, and brought to its inputs.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/run.h"

namespace lowrank {

/// Sequence s of a micro-batch is tokens cu_seqlens[s] .. cu_seqlens[s + 1] - 1; labels are already shifted, -100 is none.
struct MicroBatch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> cu_seqlens;
  std::vector<int32_t> labels;
};

/// Throws Error("SHAPE") for more tokens than the run's plan takes, Error("DATA") for ids that the model does not have.
void check_tokens(const Run& run, const std::vector<int32_t>& tokens);

/// Brings the positions of packed sequences to the device, and the rows of rotary tables that go with them. @param past
/// tokens of a cache that they follow. @param reach tokens that the sequence may come to have, if more than these
void place_positions(Run& run, const std::vector<int32_t>& cu_seqlens, int64_t past = 0, int64_t reach = 0);

/// Brings tokens, positions and the labeled rows of a micro-batch to the device of a run, and sets the run's counts. It
/// must outlive the run. Throws as check_tokens.
void place_batch(Run& run, const MicroBatch& batch);

/// Brings the weights of labeled positions there. Throws Error("SHAPE") unless each position has one.
void place_weights(Run& run, const std::vector<float>& weights);

/// Log-probabilities of the labels of a run.
std::vector<float> log_probs(const Run& run);

/// Sum of the losses that a run left.
double loss_sum(const Run& run);

}  // namespace lowrank
