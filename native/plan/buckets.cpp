#include "plan/buckets.h"

#include <algorithm>

namespace lowrank {
namespace {

struct Complete {
  size_t step;
  int64_t begin, count;  // of the parameter in the value span
};

/// Trained parameters with the last step that adds to their gradients, the earliest first.
std::vector<Complete> completions(const Plan& plan, const AdapterSpec& adapter) {
  const size_t end = plan.steps.empty() ? 0 : plan.steps.size() - 1;
  std::vector<size_t> last(adapter.parameters.size(), end);
  for (size_t i = 0; i < plan.steps.size(); ++i)
    for (const int p : plan.steps[i].adds) last[static_cast<size_t>(p)] = i;
  std::vector<Complete> found;
  for (size_t p = 0; p < last.size(); ++p)
    if (adapter.trains(static_cast<int>(p)))
      found.push_back({last[p], adapter.offsets[p], adapter.parameters[p].rows * adapter.parameters[p].cols});
  std::stable_sort(found.begin(), found.end(), [](const Complete& a, const Complete& b) { return a.step < b.step; });
  return found;
}

}  // namespace

std::vector<GradientBucket> gradient_buckets(const Plan& plan, const AdapterSpec& adapter, int64_t least) {
  std::vector<Complete> complete = completions(plan, adapter);
  std::vector<GradientBucket> buckets;
  for (auto begin = complete.begin(); begin != complete.end();) {
    auto end = begin;
    for (int64_t bytes = 0; end != complete.end() && bytes < least; ++end)
      bytes += end->count * static_cast<int64_t>(sizeof(float));
    const size_t step = (end - 1)->step;
    const auto before = [](const Complete& a, const Complete& b) { return a.begin < b.begin; };
    std::sort(begin, end, before);
    for (const size_t first = buckets.size(); begin != end; ++begin) {
      const bool joins = buckets.size() > first && buckets.back().begin + buckets.back().count == begin->begin;
      if (joins)
        buckets.back().count += begin->count;
      else
        buckets.push_back({step, begin->begin, begin->count});
    }
  }
  return buckets;
}

}  // namespace lowrank
