// Where adapters act in a graph.
#pragma once

#include "adapters/term.h"

namespace lowrank {

/// Fills `sites` and `terms` of a plan. Throws Error("CONFIG") for a target that is no linear (or embedding) of the
/// graph or that an adapter names twice, Error("SHAPE") for factors that do not fit it.
void resolve_sites(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, Plan& plan);

/// The same of one weight [rows, cols] by the target that it belongs to, apart from any graph: the terms of an adapter,
/// and the magnitude of its slot.
struct AttachedTerms {
  std::vector<std::unique_ptr<const Term>> terms;
  const LowRankSlot* magnitude = nullptr;  // that scales the rows of the whole
};
AttachedTerms terms_at(const AdapterSpec& spec, const std::string& target, const std::string& weight, int64_t rows,
                       int64_t cols);

}  // namespace lowrank
