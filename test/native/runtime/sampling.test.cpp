#include "runtime/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "check.h"
#include "core/random.h"

using namespace lowrank;

TEST("drawing a token from logits that are not finite says so instead of drawing") {
  float logits[] = {0, 3, 1};
  Sampling greedy, drawn;
  drawn.temperature = 1;
  CHECK_EQ(sample_token(logits, 3, greedy), 1);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    logits[2] = bad;
    CHECK_THROWS(sample_token(logits, 3, greedy), "the logit of token 2 is");
    CHECK_THROWS(sample_token(logits, 3, drawn), "the logit of token 2 is");
  }
}

namespace {

/// The definition: all tokens sorted, the likeliest of them kept, and one drawn in proportion.
int32_t drawn_by_sorting(const std::vector<float>& logits, const Sampling& sampling) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (sampling.top_k > 0 && sampling.top_k < static_cast<int64_t>(order.size())) order.resize(sampling.top_k);
  const auto mass = [&](int32_t id) {
    return std::exp((double{logits[id]} - logits[order[0]]) / sampling.temperature);
  };
  double total = 0, kept = 0;
  for (const int32_t id : order) total += mass(id);
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < sampling.top_p * total)) kept += mass(order[count++]);
  const double draw = counter_hash(sampling.seed, sampling.position) * 0x1p-32 * kept;
  double passed = 0;
  for (size_t i = 0; i < count; ++i)
    if ((passed += mass(order[i])) > draw) return order[i];
  return order[count - 1];
}

}  // namespace

TEST("a token is drawn as if all had been sorted") {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(counter_hash(1, i) % 64) / 8;  // with ties
  for (const float temperature : {0.3f, 1.0f, 5.0f})
    for (const int64_t top_k : {0, 1, 7, 5000})
      for (const float top_p : {1e-6f, 0.5f, 0.95f, 1.0f})
        for (uint64_t position = 0; position < 50; ++position) {
          const Sampling sampling{temperature, top_k, top_p, 3, position};
          CHECK_EQ(sample_token(logits.data(), 1000, sampling), drawn_by_sorting(logits, sampling));
        }
}

TEST("penalties and biases change the logits by hand-computed amounts") {
  const float logits[] = {2.0f, 1.75f, 1.0f, 0.0f};
  Sampling sampling;
  sampling.drawn = {0, 0, 1};
  sampling.frequency_penalty = 0.1f;  // 1.8, 1.65
  CHECK_EQ(sample_token(logits, 4, sampling), 0);
  sampling.frequency_penalty = 0.3f;  // 1.4, 1.45
  CHECK_EQ(sample_token(logits, 4, sampling), 1);
  sampling.presence_penalty = 0.5f;  // 0.9, 0.95, 1
  CHECK_EQ(sample_token(logits, 4, sampling), 2);
  sampling.logit_bias = {{3}, {100.0f}};
  CHECK_EQ(sample_token(logits, 4, sampling), 3);
  sampling.logit_bias = {{2}, {-100.0f}};
  CHECK_EQ(sample_token(logits, 4, sampling), 1);
  sampling.logit_bias = {{4}, {1.0f}};
  CHECK_THROWS(sample_token(logits, 4, sampling), "token 4 is not in the vocabulary of 4 tokens");
}

namespace {

struct OnlyOdd : TokenRules {
  std::vector<uint64_t> bits;
  std::vector<int32_t> taken;
  const std::vector<uint64_t>& allowed(int64_t vocab) override {
    bits.assign((vocab + 63) / 64, 0);
    for (int64_t id = 1; id < vocab; id += 2) bits[id / 64] |= uint64_t{1} << (id % 64);
    return bits;
  }
  void accept(int32_t token) override { taken.push_back(token); }
};

}  // namespace

TEST("tokens that the rules exclude are as if they were not in the vocabulary") {
  std::vector<float> logits(200), odd;
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(counter_hash(2, i) % 64) / 8;
  for (size_t i = 1; i < logits.size(); i += 2) odd.push_back(logits[i]);
  const auto rules = std::make_shared<OnlyOdd>();
  for (const float temperature : {0.0f, 1.0f})
    for (const int64_t top_k : {0, 7})
      for (const float top_p : {0.5f, 1.0f})
        for (uint64_t position = 0; position < 50; ++position) {
          Sampling sampling{temperature, top_k, top_p, 3, position};
          const int32_t expected = 2 * sample_token(odd.data(), 100, sampling) + 1;
          sampling.rules = rules;
          CHECK_EQ(sample_token(logits.data(), 200, sampling), expected);
          CHECK_EQ(rules->taken.back(), expected);
        }
}

TEST("log-probabilities of the model's own distribution by hand") {
  // Probabilities 1/2, 1/4, 1/8, 1/8.
  const float ln2 = 0.6931471805599453f, logits[] = {5, 5 + 2 * ln2, 5 + ln2, 5};
  const OwnLogProbs own = own_log_probs(logits, 4, 3, 3);
  CHECK_CLOSE(own.log_prob, -3 * double{ln2}, 1e-6);
  CHECK(own.top == (std::vector<int32_t>{1, 2, 0}));
  for (int i = 0; i < 3; ++i) CHECK_CLOSE(own.top_log_probs[i], -(i + 1) * double{ln2}, 1e-6);
  CHECK_EQ(own_log_probs(logits, 4, 0, 0).top.size(), 0u);
  CHECK_EQ(own_log_probs(logits, 4, 0, 20).top.size(), 4u);
}
