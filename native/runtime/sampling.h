// Samples tokens from logits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace lowrank {

/// Rules for the tokens of an answer, such as a grammar: they allow a set of tokens, and move on by the one drawn.
class TokenRules {
 public:
  virtual ~TokenRules() = default;
  /// Bit i % 64 of word i / 64 is set for an allowed token i. Valid until the next call.
  virtual const std::vector<uint64_t>& allowed(int64_t vocab) = 0;
  virtual void accept(int32_t token) = 0;
};

struct Sampling {
  float temperature = 0;
  int64_t top_k = 0;  // 0: all
  float top_p = 1;
  uint64_t seed = 0;
  uint64_t position = 0;
  // Changes of the logits before the temperature, in this order.
  float frequency_penalty = 0;                          // subtracted once for each time that a token is among `drawn`
  float presence_penalty = 0;                           // subtracted once from each token among `drawn`
  std::vector<int32_t> drawn{};                         // the answer so far, if there are penalties
  std::vector<std::pair<int32_t, float>> logit_bias{};  // added to the logit of a token
  std::shared_ptr<TokenRules> rules{};                  // other tokens than those allowed are never drawn
};

/// Samples a token from logits [vocab]: greedy at temperature 0, else softmax over the top_k and top_p best.
/// Deterministic in (seed, position). Moves the rules on.
int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling);

/// Log-probability of a token by softmax(logits / temperature) over the whole vocabulary, in nats; a temperature of 0
/// is treated as 1.
double log_probability(const float* logits, int64_t vocab, int32_t token, float temperature);

/// Log-probabilities in the model's own distribution, which temperature, penalties, biases, and rules do not change.
struct OwnLogProbs {
  double log_prob = 0;  // of the drawn token
  std::vector<int32_t> top;
  std::vector<double> top_log_probs;
};

/// @param top number of likeliest tokens to name, in descending order; ties go to the lower id
OwnLogProbs own_log_probs(const float* logits, int64_t vocab, int32_t token, int64_t top);

}  // namespace lowrank
