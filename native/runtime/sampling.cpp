#include "runtime/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/math.h"
#include "core/random.h"

namespace lowrank {

int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling) {
  for (int64_t i = 0; i < vocab; ++i)
    if (!std::isfinite(logits[i]))
      fail("DIVERGED", "the logit of token ", i, " is ", logits[i], ", so no token can be drawn; the weights or the ",
           "adapter hold values that are not finite");
  const float* const best = std::max_element(logits, logits + vocab);
  if (sampling.temperature <= 0) return static_cast<int32_t>(best - logits);
  // Tokens come off a heap, the likeliest first, until one is drawn: most often the first few, so not all are sorted.
  // Ties go to the lower id.
  const auto worse = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; };
  const auto mass_of = [&](int64_t id) {
    return math::exp((static_cast<double>(logits[id]) - *best) / sampling.temperature);
  };
  std::vector<int32_t> heap(vocab);
  std::iota(heap.begin(), heap.end(), 0);
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
  size_t count = static_cast<size_t>(vocab);
  double total = 0;
  if (sampling.top_k > 0 && sampling.top_k < vocab) {
    count = static_cast<size_t>(sampling.top_k);
    for (size_t i = 0; i < count; ++i) total += candidate(i).mass;
  } else {
    for (int64_t id = 0; id < vocab; ++id) total += mass_of(id);
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

double log_probability(const float* logits, int64_t vocab, int32_t token, float temperature) {
  const double top = *std::max_element(logits, logits + vocab), over = temperature > 0 ? temperature : 1;
  double total = 0;
  for (int64_t id = 0; id < vocab; ++id) total += math::exp((logits[id] - top) / over);
  return (logits[token] - top) / over - math::log(total);
}

}  // namespace lowrank
