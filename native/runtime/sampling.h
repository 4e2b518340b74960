// Samples tokens from logits.
#pragma once

#include <cstdint>

namespace lowrank {

struct Sampling {
  float temperature = 0;
  int64_t top_k = 0;  // 0: all
  float top_p = 1;
  uint64_t seed = 0;
  uint64_t position = 0;
};

/// Samples a token from logits [vocab]: greedy at temperature 0, else softmax over the top_k and top_p best.
/// Deterministic in (seed, position).
int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling);

/// Log-probability of a token by softmax(logits / temperature) over the whole vocabulary, in nats; a temperature of 0
/// is treated as 1.
double log_probability(const float* logits, int64_t vocab, int32_t token, float temperature);

}  // namespace lowrank
