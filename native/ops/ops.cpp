#include "ops/ops.h"

#include "adapters/sites.h"
#include "ops/add.h"
#include "ops/attention.h"
#include "ops/cast.h"
#include "ops/embedding.h"
#include "ops/gated_delta_rule.h"
#include "ops/gated_unit.h"
#include "ops/linear.h"
#include "ops/lm_head.h"
#include "ops/part_ends.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/short_conv.h"
#include "ops/slice.h"

namespace lowrank {

const OpTable kOps{&embedding, &rms_norm, &linear, &cast, &add, &rope, &attention, &swiglu, &geglu, &glu, &slice,
                   &short_conv, &silu_conv, &gated_delta_rule, &lm_head, &receive, &send};  // in the order of Op

Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options) {
  Plan sites;
  resolve_sites(graph, adapters, sites);
  return plan_with(kOps, sizes, graph, adapters, options, std::move(sites));
}

}  // namespace lowrank
