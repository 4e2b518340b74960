#include "runtime/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/math.h"
#include "core/random.h"

namespace lowrank {

namespace {

/// The logits after penalties and biases, in `changed` where there are any.
const float* changed_logits(const float* logits, int64_t vocab, const Sampling& sampling, std::vector<float>& changed) {
  const bool penalties = sampling.frequency_penalty != 0 || sampling.presence_penalty != 0;
  if (!penalties && sampling.logit_bias.ids.empty()) return logits;
  changed.assign(logits, logits + vocab);
  const auto logit = [&](int32_t id) -> float& {
    if (id < 0 || id >= vocab) fail("CONFIG", "token ", id, " is not in the vocabulary of ", vocab, " tokens");
    return changed[id];
  };
  if (penalties) {
    std::vector<bool> seen(vocab);
    for (const int32_t id : sampling.drawn) {
      logit(id) -= sampling.frequency_penalty + (seen[id] ? 0 : sampling.presence_penalty);
      seen[id] = true;
    }
  }
  const auto& [ids, values] = sampling.logit_bias;
  for (size_t i = 0; i < ids.size(); ++i) logit(ids[i]) += values[i];
  return changed.data();
}

/// Tokens that may be drawn, ascending.
std::vector<int32_t> candidates_of(int64_t vocab, TokenRules* rules) {
  std::vector<int32_t> ids;
  if (rules == nullptr) {
    ids.resize(vocab);
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }
  const std::vector<uint64_t>& allowed = rules->allowed(vocab);
  for (size_t word = 0; word < allowed.size(); ++word)
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1)
      ids.push_back(static_cast<int32_t>(word * 64 + std::countr_zero(bits)));
  if (ids.empty()) fail("UNSUPPORTED", "no token of the vocabulary goes on as the format of the answer requires");
  return ids;
}

int32_t drawn_token(const float* own, int64_t vocab, const Sampling& sampling) {
  for (int64_t i = 0; i < vocab; ++i)
    if (!std::isfinite(own[i]))
      fail("DIVERGED", "the logit of token ", i, " is ", own[i], ", so no token can be drawn; the weights or the ",
           "adapter hold values that are not finite");
  std::vector<float> changed;
  const float* const logits = changed_logits(own, vocab, sampling, changed);
  const bool greedy = sampling.temperature <= 0;
  if (greedy && !sampling.rules) return static_cast<int32_t>(std::max_element(logits, logits + vocab) - logits);
  // Tokens come off a heap, the likeliest first, until one is drawn: most often the first few, so not all are sorted.
  // Ties go to the lower id.
  const auto worse = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; };
  std::vector<int32_t> heap = candidates_of(vocab, sampling.rules.get());
  const int32_t best = *std::max_element(heap.begin(), heap.end(), worse);
  if (greedy) return best;
  const auto mass_of = [&](int64_t id) {
    return math::exp((static_cast<double>(logits[id]) - logits[best]) / sampling.temperature);
  };
  size_t count = heap.size();
  double total = 0;
  const bool cut = sampling.top_k > 0 && sampling.top_k < static_cast<int64_t>(count);
  if (!cut)
    for (const int32_t id : heap) total += mass_of(id);
  std::make_heap(heap.begin(), heap.end(), worse);
  struct Candidate {
    int32_t id;
    double mass;
  };
  std::vector<Candidate> candidates;
  const auto candidate = [&](size_t index) -> const Candidate& {
    while (candidates.size() <= index) {
      std::pop_heap(heap.begin(), heap.end(), worse);
      candidates.push_back({heap.back(), mass_of(heap.back())});
      heap.pop_back();
    }
    return candidates[index];
  };
  if (cut) {
    count = static_cast<size_t>(sampling.top_k);
    for (size_t i = 0; i < count; ++i) total += candidate(i).mass;
  }
  if (sampling.top_p < 1) {
    double kept = 0;
    size_t enough = 0;
    while (enough < count && kept < sampling.top_p * total) kept += candidate(enough++).mass;
    count = std::max<size_t>(enough, 1);
    total = kept;
  }
  const double draw = counter_hash(sampling.seed, sampling.position) * 0x1p-32 * total;
  double passed = 0;
  for (size_t i = 0; i < count; ++i)
    if ((passed += candidate(i).mass) > draw) return candidate(i).id;
  return candidate(count - 1).id;
}

}  // namespace

int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling) {
  const int32_t token = drawn_token(logits, vocab, sampling);
  if (sampling.rules) sampling.rules->accept(token);
  return token;
}

OwnLogProbs own_log_probs(const float* logits, int64_t vocab, int32_t token, int64_t top) {
  const double most = *std::max_element(logits, logits + vocab);
  double total = 0;
  for (int64_t id = 0; id < vocab; ++id) total += math::exp(logits[id] - most);
  const double log_total = math::log(total);
  const auto log_prob = [&](int32_t id) { return (logits[id] - most) - log_total; };
  OwnLogProbs own{log_prob(token), {}, {}};
  if (top <= 0) return own;
  std::vector<int32_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  const auto better = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const auto end = order.begin() + std::min(top, vocab);
  std::partial_sort(order.begin(), end, order.end(), better);
  own.top.assign(order.begin(), end);
  for (const int32_t id : own.top) own.top_log_probs.push_back(log_prob(id));
  return own;
}

double log_probability(const float* logits, int64_t vocab, int32_t token, float temperature) {
  const double top = *std::max_element(logits, logits + vocab), over = temperature > 0 ? temperature : 1;
  double total = 0;
  for (int64_t id = 0; id < vocab; ++id) total += math::exp((logits[id] - top) / over);
  return (logits[token] - top) / over - math::log(total);
}

}  // namespace lowrank
