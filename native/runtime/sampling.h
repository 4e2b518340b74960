// Samples tokens from logits.
#pragma once

#include <cstdint>
#include <vector>

#include "core/boundary.h"

namespace lowrank {

/// Rules for the tokens of an answer, such as a grammar: they allow a set of tokens, and move on by the one drawn.
class TokenRules {
 public:
  virtual ~TokenRules() = default;
  /// Bit i % 64 of word i / 64 is set for an allowed token i. Valid until the next call.
  virtual const std::vector<uint64_t>& allowed(int64_t vocab) = 0;
  virtual void accept(int32_t token) = 0;
};

/// Samples a token from logits [vocab]: greedy at temperature 0, else softmax over the top_k and top_p best.
/// Deterministic in (seed, position). Moves the rules on.
int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling);

/// Log-probability of a token by softmax(logits / temperature) over the whole vocabulary, in nats; a temperature of 0
/// is treated as 1.
double log_probability(const float* logits, int64_t vocab, int32_t token, float temperature);

/// @param top number of likeliest tokens to name, in descending order; ties go to the lower id
OwnLogProbs own_log_probs(const float* logits, int64_t vocab, int32_t token, int64_t top);

}  // namespace lowrank
