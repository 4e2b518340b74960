// Where adapters act in a graph.
#pragma once

#include "plan/plan.h"

namespace lowrank {

/// Fills `sites` and `terms` of a plan. Throws Error("CONFIG") for a target that is no linear (or embedding) of the graph or
/// that an adapter names twice, Error("SHAPE") for factors that do not fit it.
void resolve_sites(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, Plan& plan);

}  // namespace lowrank
