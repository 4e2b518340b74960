#include "ops/ops.h"

#include "ops/attention.h"
#include "ops/lm_head.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"

namespace lowrank {
namespace {

/// In the order of Op.
constexpr OpTable kOps{nullptr, &rms_norm, nullptr, &rope, &attention, &swiglu, &lm_head};

}  // namespace

Plan make_plan(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options) {
  return plan_with(kOps, graph, adapters, options);
}

}  // namespace lowrank
