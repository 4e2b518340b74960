#include "plan/buckets.h"

#include <algorithm>

namespace lowrank {
namespace {

struct Complete {
  size_t step;
  const ParameterSpec* parameter;
};

/// Trained parameters with the last step that adds to their gradients, the earliest first.
std::vector<Complete> completions(const Plan& plan, const AdapterSpec& adapter) {
  const size_t end = plan.steps.empty() ? 0 : plan.steps.size() - 1;
  std::vector<size_t> last(adapter.parameters.size(), end);
  for (size_t i = 0; i < plan.steps.size(); ++i)
    for (const int p : plan.steps[i].adds) last[static_cast<size_t>(p)] = i;
  std::vector<Complete> found;
  for (size_t p = 0; p < last.size(); ++p)
    if (adapter.trains(static_cast<int>(p))) found.push_back({last[p], &adapter.parameters[p]});
  std::stable_sort(found.begin(), found.end(), [](const Complete& a, const Complete& b) { return a.step < b.step; });
  return found;
}

int64_t count_of(const ParameterSpec& parameter) { return parameter.rows * parameter.cols; }

}  // namespace

std::vector<GradientBucket> gradient_buckets(const Plan& plan, const AdapterSpec& adapter, int64_t least) {
  std::vector<Complete> complete = completions(plan, adapter);
  std::vector<GradientBucket> buckets;
  for (auto begin = complete.begin(); begin != complete.end();) {
    auto end = begin;
    for (int64_t bytes = 0; end != complete.end() && bytes < least; ++end)
      bytes += count_of(*end->parameter) * static_cast<int64_t>(sizeof(float));
    const size_t step = (end - 1)->step;
    const auto before = [](const Complete& a, const Complete& b) { return a.parameter->offset < b.parameter->offset; };
    std::sort(begin, end, before);
    for (const size_t first = buckets.size(); begin != end; ++begin) {
      const ParameterSpec& parameter = *begin->parameter;
      const bool joins = buckets.size() > first && buckets.back().begin + buckets.back().count == parameter.offset;
      if (joins)
        buckets.back().count += count_of(parameter);
      else
        buckets.push_back({step, parameter.offset, count_of(parameter)});
    }
  }
  return buckets;
}

}  // namespace lowrank
