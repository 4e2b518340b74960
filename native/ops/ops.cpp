#include "ops/ops.h"

#include "adapters/sites.h"
#include "ops/list.h"

namespace lowrank {

Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options) {
  Plan sites;
  resolve_sites(graph, adapters, sites);
  return plan_with(kOps, sizes, graph, adapters, options, std::move(sites));
}

}  // namespace lowrank
