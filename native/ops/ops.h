// The table of rooms, and graphs checked and planned with it.
#pragma once

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

extern const OpTable kOps;

/// Validates ids, order and shapes, and fills the tables of the graph. Throws Error("SHAPE") naming the node.
void check_graph(Graph& graph);

/// Plans a graph with all operations there are, for the device that the sizes are of. Throws as plan_with.
Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options);

}  // namespace lowrank
