// Sites of adapters in a graph.
#pragma once

#include "adapters/term.h"

namespace lowrank {

/// Fills `sites` and `terms` of a plan, in each adapter's order. Throws Error("CONFIG") for a target that is not a
/// linear layer (or embedding) of the graph or that an adapter lists twice, and Error("SHAPE") for factors that do not
/// fit it.
void resolve_sites(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, Plan& plan);

/// The term of an adapter at a weight [rows, cols], by target and independent of any graph; null if none. Throws
/// Error("SHAPE") for factors that do not fit it.
std::unique_ptr<const Term> term_at(const AdapterSpec& spec, const std::string& target, const std::string& weight,
                                    int64_t rows, int64_t cols);

}  // namespace lowrank
