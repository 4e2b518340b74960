// Validation and planning of graphs with the table of operations.
#pragma once

#include "plan/plan.h"

namespace lowrank {

/// Validates ids, order, and shapes, and fills the graph's tables. Throws Error("SHAPE") naming the node.
void check_graph(Graph& graph);

/// Plans a graph with all operations, for the device to which the sizes belong. Throws Error("SHAPE"), Error("CONFIG"),
/// or Error("UNSUPPORTED") with the node's path.
Plan make_plan(const KernelSizes& sizes, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options);

/// Prepares all nodes to continue a text after `run.past` tokens. @param kept_after tokens after which the last states
/// kept stand. Throws Error("SHAPE") if the text can be continued neither there nor where each node kept a state.
void rewind(const Run& run, int64_t kept_after);

/// Copies what all nodes keep of the tokens from `from` on of the cache to the tokens from `to` on.
void copy_states(Run& run, int64_t from, int64_t to, int64_t tokens);

}  // namespace lowrank
