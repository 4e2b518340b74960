// The table of rooms, and plans made with it.
#pragma once

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

/// Plans a graph with all operations there are, for the device that the sizes are of. Throws as plan_with.
Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options);

}  // namespace lowrank
