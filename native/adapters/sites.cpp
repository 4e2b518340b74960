#include "adapters/sites.h"

#include "adapters/terms.h"
#include "core/error.h"

namespace lowrank {
namespace {

Site site_of(const Graph& graph, const std::string& target, Op op) {
  const auto found = graph.node_of_path.find(target);
  if (found == graph.node_of_path.end() || graph.nodes[found->second].op != op)
    fail("CONFIG", "adapter: '", target, "' is not ", op == Op::embedding ? "an embedding" : "a linear",
         " of this model");
  const Node& node = graph.nodes[found->second];
  return {found->second, graph.values[node.out].cols,
          op == Op::embedding ? graph.vocab_size : graph.values[node.inputs[0]].cols};
}

}  // namespace

void resolve_sites(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, Plan& plan) {
  plan.sites.assign(graph.nodes.size(), {});
  for (size_t index = 0; index < adapters.size(); ++index) {
    const AdapterSpec& spec = *adapters[index];
    for (size_t i = 0; i < spec.terms.size(); ++i) {
      const TermSpec& described = spec.terms[i];
      const TermKind& kind = term_kind(described);
      const Site site = site_of(graph, described.target, kind.at);
      std::shared_ptr<const Term> term = kind.make(spec, static_cast<int>(i), site);
      term->check_site(kind.at == Op::embedding ? "the embedding" : "the linear");
      std::vector<AdapterSite>& sites = plan.sites[site.node];
      sites.resize(adapters.size());
      AdapterSite& here = sites[index];
      if (here.spec != nullptr) fail("CONFIG", "adapter: '", described.target, "' has two terms");
      here.spec = &spec;
      here.terms = {term.get()};
      here.trained = term->trained();
      if (const int magnitude = spec.facts[i].magnitude; magnitude >= 0) {
        here.scaled = term.get();
        if (spec.trains(magnitude)) here.trained.push_back(magnitude);
      }
      plan.terms.push_back(std::move(term));
    }
  }
}

std::unique_ptr<const Term> term_at(const AdapterSpec& spec, const std::string& target, const std::string& weight,
                                    int64_t rows, int64_t cols) {
  for (size_t i = 0; i < spec.terms.size(); ++i) {
    if (spec.terms[i].target != target) continue;
    const TermKind& kind = term_kind(spec.terms[i]);
    const Site site = kind.at == Op::embedding ? Site{-1, cols, rows} : Site{-1, rows, cols};
    std::unique_ptr<const Term> term = kind.make(spec, static_cast<int>(i), site);
    term->check_site(weight);
    return term;
  }
  return nullptr;
}

}  // namespace lowrank
