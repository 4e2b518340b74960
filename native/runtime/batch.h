// A micro-batch: validated against a plan, and uploaded to its inputs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/boundary.h"
#include "plan/run.h"

namespace lowrank {

/// Throws Error("SHAPE") for more tokens than the run's plan allows, Error("DATA") for ids outside the vocabulary.
void check_tokens(const Run& run, const std::vector<int32_t>& tokens);

/// Uploads the positions of packed sequences, and the matching rows of the rotary tables. @param past tokens of each
/// sequence that are already in the cache; empty: none @param reach maximum tokens that each may reach, if more
void place_positions(Run& run, const std::vector<int32_t>& cu_seqlens, const std::vector<int64_t>& past = {},
                     const std::vector<int64_t>& reach = {});

/// Uploads tokens, positions, and labeled rows of a micro-batch, and sets the run's counts. The batch must outlive the
/// run. Throws as check_tokens.
void place_batch(Run& run, const MicroBatch& batch);

/// Uploads the weights of labeled positions. Throws Error("SHAPE") unless each position has one.
void place_weights(Run& run, const std::vector<float>& weights);

/// Log-probabilities of a run's labels.
std::vector<float> log_probs(const Run& run);

/// Sum of a run's losses.
double loss_sum(const Run& run);

/// Labeled positions whose label has the largest logit, if the plan counts them.
std::optional<int64_t> hits(const Run& run);

}  // namespace lowrank
