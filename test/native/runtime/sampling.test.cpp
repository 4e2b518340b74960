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
