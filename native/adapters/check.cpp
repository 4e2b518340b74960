#include "adapters/check.h"

#include <unordered_set>

#include "adapters/terms.h"
#include "core/error.h"

namespace lowrank {
namespace {

constexpr int64_t kMostElements = int64_t{1} << 40;  // of one parameter: no sum or product of sizes leaves 64 bits

/// A and B of terms of their own and copies of weights are all that trains, so that it is known which coordinates a
/// contribution has at some ranks.
void check_private(const AdapterSpec& spec) {
  std::vector<int> uses(spec.parameters.size(), 0);
  for (size_t i = 0; i < spec.facts.size(); ++i) {
    const TermFacts& term = spec.facts[i];
    if (term.a < 0)
      fail("SHAPE", "adapter at ", spec.terms[i].target, ": private training supports only A and B without gains");
    ++uses[term.a];
    ++uses[term.b];
  }
  for (const WeightCopy& copy : spec.copies) ++uses[copy.parameter];
  for (size_t i = 0; i < uses.size(); ++i)
    if (spec.parameters[i].trained && uses[i] != 1)
      fail("SHAPE", "adapter parameter ", spec.parameters[i].name, " is ",
           uses[i] == 0 ? "not a factor or copy" : "used twice",
           "; private training supports only A and B of one module each, and copies of weights");
}

}  // namespace

void check_adapter(AdapterSpec& spec) {
  std::unordered_set<std::string> names;
  spec.elements = spec.trained_elements = 0;
  spec.offsets.assign(spec.parameters.size(), 0);
  for (const bool trained : {true, false}) {
    for (size_t i = 0; i < spec.parameters.size(); ++i) {
      const ParameterSpec& p = spec.parameters[i];
      if (p.trained != trained) continue;
      if (p.rows <= 0 || p.cols <= 0 || p.rows > kMostElements / p.cols)
        fail("SHAPE", "adapter parameter ", p.name, " is [", p.rows, ", ", p.cols,
             "]; expected positive dimensions and at most 2^40 elements");
      if (!names.insert(p.name).second) fail("SHAPE", "adapter parameter ", p.name, " is declared twice");
      spec.offsets[i] = spec.elements;
      spec.elements += p.rows * p.cols;
    }
    if (trained) spec.trained_elements = spec.elements;
  }
  for (const WeightCopy& copy : spec.copies)
    if (copy.parameter < 0 || copy.parameter >= static_cast<int>(spec.parameters.size()))
      fail("SHAPE", "adapter: the copy of ", copy.weight, " names no parameter");
  for (const GradientProjection& projection : spec.projections) {
    const int count = static_cast<int>(spec.parameters.size());
    if (projection.a < 0 || projection.b < 0 || projection.a >= count || projection.b >= count)
      fail("SHAPE", "adapter: a projection names no parameter");
    const ParameterSpec& a = spec.parameters[projection.a];
    const ParameterSpec& b = spec.parameters[projection.b];
    if (a.trained || !b.trained || a.rows != b.cols || !(projection.scale != 0))
      fail("SHAPE", "adapter: the gradient of ", b.name, " [", b.rows, ", ", b.cols, "] cannot be projected by ",
           a.name, " [", a.rows, ", ", a.cols, "] at scale ", projection.scale,
           "; expected a trained B, a frozen A, and the same rank");
  }
  spec.norm_rows = 0;
  spec.tracked_elements = 0;
  spec.tracked.assign(spec.parameters.size(), -1);
  for (const TripletSpec& triplet : spec.triplets) {
    for (const int index : {triplet.a, triplet.d, triplet.b}) {
      if (index < 0 || index >= static_cast<int>(spec.parameters.size()))
        fail("SHAPE", "adapter: a triplet names no parameter");
      const ParameterSpec& p = spec.parameters[index];
      if (!p.trained) fail("SHAPE", "adapter: ", p.name, " is part of a triplet but is not trained");
      if (spec.tracked[index] >= 0) fail("SHAPE", "adapter: ", p.name, " is in two triplets");
      spec.tracked[index] = spec.tracked_elements;
      spec.tracked_elements += p.rows * p.cols;
    }
    const ParameterSpec &a = spec.parameters[triplet.a], &d = spec.parameters[triplet.d],
                        &b = spec.parameters[triplet.b];
    if (d.rows != 1 || d.cols != a.rows || d.cols != b.cols)
      fail("SHAPE", "adapter: ", a.name, " [", a.rows, ", ", a.cols, "], ", d.name, " [", d.rows, ", ", d.cols,
           "] and ", b.name, " [", b.rows, ", ", b.cols,
           "] do not form a triplet; expected "
           "[rank, in], [1, rank], and [out, rank]");
    const auto mean = [](float beta) { return beta >= 0 && beta < 1; };
    if (!mean(triplet.beta1) || !mean(triplet.beta2) || !(triplet.orthogonal >= 0))
      fail("SHAPE", "adapter: the triplet of ", a.name, " has beta1 ", triplet.beta1, ", beta2 ", triplet.beta2,
           " and orthogonal ", triplet.orthogonal, "; expected betas in [0, 1) and a non-negative orthogonal");
  }
  spec.facts.clear();
  for (size_t i = 0; i < spec.terms.size(); ++i) {
    for (const auto& [role, index] : spec.terms[i].parameters)
      if (index < 0 || index >= static_cast<int>(spec.parameters.size()))
        fail("SHAPE", "adapter at ", spec.terms[i].target, ": ", role, " names no parameter");
    const std::unique_ptr<Term> term = term_kind(spec.terms[i]).make(spec, static_cast<int>(i), {});
    term->check();
    spec.facts.push_back(term->facts());
    if (const int magnitude = spec.facts.back().magnitude; magnitude >= 0)
      spec.norm_rows += spec.parameters[magnitude].cols;
  }
  if (spec.privacy != Privacy::none) check_private(spec);
}

}  // namespace lowrank
