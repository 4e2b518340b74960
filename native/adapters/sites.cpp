#include "adapters/sites.h"

#include "adapters/check.h"
#include "adapters/embedding_term.h"
#include "adapters/kronecker.h"
#include "adapters/kronecker_term.h"
#include "adapters/low_rank.h"
#include "adapters/pair.h"
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

std::unique_ptr<const Term> make_term(const AdapterSpec& spec, int slot, const Site& site) {
  if (spec.slots[slot].embedding) return std::make_unique<EmbeddingTerm>(spec, slot, site);
  if (spec.slots[slot].paired()) return std::make_unique<PairTerm>(spec, slot, site);
  return std::make_unique<LowRank>(spec, slot, site);
}

void check(const AdapterSpec& spec, const LowRankSlot& slot, const Site& site) {
  const ParameterSpec &a = spec.parameters[slot.a], &b = spec.parameters[slot.b];
  if (!fits(spec, slot, site.out, site.in))
    fail("SHAPE", "adapter at ", slot.target, ": A is [", a.rows, ", ", a.cols, "] and B [", b.rows, ", ", b.cols,
         "] but the ", slot.embedding ? "embedding" : "linear", " is [", site.out, ", ", site.in, "]");
}

void check(const AdapterSpec& spec, const KroneckerSlot& slot, const Site& site) {
  const KroneckerShape shape = kronecker_shape(spec, slot);
  if (shape.out() != site.out || shape.in() != site.in)
    fail("SHAPE", "adapter at ", slot.target, ": C (x) D is [", shape.l, " x ", shape.k, ", ", shape.p, " x ", shape.q,
         "] but the linear is [", site.out, ", ", site.in, "]");
}

}  // namespace

void resolve_sites(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, Plan& plan) {
  plan.sites.assign(graph.nodes.size(), {});
  for (size_t index = 0; index < adapters.size(); ++index) {
    const AdapterSpec& spec = *adapters[index];
    const auto at = [&](const Site& site) -> AdapterSite& {
      std::vector<AdapterSite>& sites = plan.sites[site.node];
      sites.resize(adapters.size());
      sites[index].spec = &spec;
      return sites[index];
    };
    const auto add = [&](AdapterSite& site, std::shared_ptr<const Term> term) {
      for (const int parameter : term->trained()) site.trained.push_back(parameter);
      site.terms.push_back(term.get());
      plan.terms.push_back(std::move(term));
    };
    for (size_t i = 0; i < spec.slots.size(); ++i) {
      const LowRankSlot& slot = spec.slots[i];
      const Site site = site_of(graph, slot.target, slot.embedding ? Op::embedding : Op::linear);
      check(spec, slot, site);
      AdapterSite& here = at(site);
      if (here.slot >= 0) fail("CONFIG", "adapter: '", slot.target, "' has two slots");
      here.slot = static_cast<int>(i);
      here.magnitude = slot.magnitude >= 0;
      if (spec.trains(slot.magnitude)) here.trained.push_back(slot.magnitude);
      add(here, make_term(spec, here.slot, site));
    }
    std::vector<bool> seen(graph.nodes.size(), false);
    for (size_t i = 0; i < spec.kroneckers.size(); ++i) {
      const KroneckerSlot& slot = spec.kroneckers[i];
      const Site site = site_of(graph, slot.target, Op::linear);
      check(spec, slot, site);
      if (seen[site.node]) fail("CONFIG", "adapter: '", slot.target, "' has two slots");
      seen[site.node] = true;
      add(at(site), std::make_shared<KroneckerTerm>(spec, static_cast<int>(i), site));
    }
  }
}

AttachedTerms terms_at(const AdapterSpec& spec, const std::string& target, const std::string& weight, int64_t rows,
                       int64_t cols) {
  AttachedTerms found;
  for (size_t i = 0; i < spec.kroneckers.size(); ++i) {
    if (spec.kroneckers[i].target != target) continue;
    const KroneckerShape shape = kronecker_shape(spec, spec.kroneckers[i]);
    if (shape.out() != rows || shape.in() != cols)
      fail("SHAPE", "adapter at ", target, ": C (x) D is [", shape.out(), ", ", shape.in(), "] but ", weight, " is [",
           rows, ", ", cols, "]");
    found.terms.push_back(std::make_unique<KroneckerTerm>(spec, static_cast<int>(i), Site{-1, rows, cols}));
  }
  for (size_t i = 0; i < spec.slots.size(); ++i) {
    const LowRankSlot& slot = spec.slots[i];
    if (slot.target != target) continue;
    const Site site = slot.embedding ? Site{-1, cols, rows} : Site{-1, rows, cols};
    if (!fits(spec, slot, site.out, site.in))
      fail("SHAPE", "adapter at ", target, ": B A is [", spec.parameters[slot.b].rows, ", ",
           spec.parameters[slot.a].cols, "] but ", weight, " is [", rows, ", ", cols, "]");
    found.terms.push_back(make_term(spec, static_cast<int>(i), site));
    if (slot.magnitude >= 0) found.magnitude = &slot;
  }
  return found;
}

}  // namespace lowrank
