// The order in which a backward pass completes an adapter's gradients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/adapter_spec.h"
#include "plan/plan.h"

namespace lowrank {

/// A stretch of the gradients' span, complete after a step of the plan.
struct GradientBucket {
  size_t step;
  int64_t begin, count;  // in elements
};

/// Stretches that cover all gradients, in the order of their steps. Gradients complete at nearby steps are joined until
/// they have `least` bytes.
std::vector<GradientBucket> gradient_buckets(const Plan& plan, const AdapterSpec& adapter, int64_t least = 1 << 20);

}  // namespace lowrank
