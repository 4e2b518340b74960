#include "ops/ops.h"

#include "adapters/sites.h"
#include "core/error.h"
#include "ops/list.h"
#include "plan/planner.h"

namespace lowrank {

Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options) {
  Plan sites;
  resolve_sites(graph, adapters, sites);
  return Planner(kOps, sizes, graph, adapters, options, std::move(sites)).build();
}

void rewind(const Run& run, int64_t kept_after) {
  if (run.past == 0 || run.past == kept_after) return;
  for (size_t i = 0; i < run.graph.nodes.size(); ++i) {
    const Op op = run.graph.nodes[i].op;
    const auto rewind = kOps[static_cast<size_t>(op)]->rewind;
    if (rewind == nullptr) continue;
    if (run.past % state_block(op) != 0)
      fail("SHAPE", "a text cannot be continued after ", run.past,
           " tokens, only where the last call ended or after a multiple of ", state_block(op), ", where ", name_of(op),
           " kept its state");
    rewind(run, static_cast<int>(i));
  }
}

void copy_states(Run& run, int64_t from, int64_t to, int64_t tokens) {
  for (size_t i = 0; i < run.graph.nodes.size(); ++i) {
    const OpRules& rule = *kOps[static_cast<size_t>(run.graph.nodes[i].op)];
    if (rule.copy != nullptr) rule.copy(run, static_cast<int>(i), from, to, tokens);
  }
}

}  // namespace lowrank
