// Validation and planning of graphs with the table of operations.
#pragma once

#include "plan/plan.h"

namespace lowrank {

/// Validates ids, order, and shapes, and fills the graph's tables. Throws Error("SHAPE") naming the node.
void check_graph(Graph& graph);

/// Plans a graph with all operations, for the device to which the sizes belong. Throws as plan_with.
Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options);

}  // namespace lowrank
