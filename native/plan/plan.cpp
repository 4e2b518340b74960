#include "plan/plan.h"

#include <algorithm>
#include <numeric>
#include <sstream>

#include "core/error.h"
#include "core/math.h"

namespace lowrank {

std::vector<CopyRef> resolve_copies(const Graph& graph, const std::vector<const AdapterSpec*>& adapters) {
  std::vector<CopyRef> copies(graph.weights.size());
  for (size_t a = 0; a < adapters.size(); ++a) {
    for (const WeightCopy& copy : adapters[a]->copies) {
      const auto found = graph.weight_of_name.find(copy.weight);
      if (found == graph.weight_of_name.end())
        fail("CONFIG", "adapter: '", copy.weight, "' is not a weight of this model");
      const GraphWeight& weight = graph.weights[found->second];
      const ParameterSpec& own = adapters[a]->parameters[copy.parameter];
      if (own.rows != weight.rows || own.cols != weight.cols)
        fail("SHAPE", "adapter: the copy of ", copy.weight, " is [", own.rows, ", ", own.cols, "] but the weight is [",
             weight.rows, ", ", weight.cols, "]");
      CopyRef& ref = copies[found->second];
      if (ref.adapter >= 0)
        fail("CONFIG", "adapter: '", copy.weight, "' is replaced twice; only one adapter that trains a base weight ",
             "may be active");
      ref = {static_cast<int>(a), copy.parameter};
    }
  }
  return copies;
}

std::vector<int64_t> Plan::live_bytes() const {
  std::vector<int64_t> change(steps.size() + 1, 0);
  for (const Buffer& buffer : buffers) {
    if (buffer.first < 0) continue;
    change[buffer.first] += buffer.bytes;
    change[buffer.last + 1] -= buffer.bytes;
  }
  change.pop_back();
  std::partial_sum(change.begin(), change.end(), change.begin());
  return change;
}

std::vector<int64_t> Plan::peak_rows() const {
  std::vector<int64_t> rows(kCategories, 0);
  int64_t live = 0;
  for (const Buffer& buffer : buffers) {
    if (buffer.first < 0 || buffer.first > peak_step || buffer.last < peak_step) continue;
    rows[static_cast<int>(buffer.category)] += buffer.bytes;
    live += buffer.bytes;
  }
  rows[static_cast<int>(Category::workspace)] += arena_bytes - live;
  return rows;
}

std::string Plan::steps_text(const Graph& graph) const {
  std::ostringstream text;
  const auto named = [&](const char* name, int64_t id) {
    if (id >= 0) text << ' ' << name << '=' << id;
  };
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& s = steps[i];
    text << i << ' ' << name_of(s.phase) << ' ' << s.kind->name;
    if (s.node >= 0) text << ' ' << graph.nodes[s.node].path;
    for (size_t at = 0; at < s.buffers.size(); ++at) named(slot::kNames[at], s.buffers[at]);
    named("workspace", s.workspace);
    for (const GradientTerm& term : s.terms) {
      text << " + " << graph.nodes[term.node].path;
      named("dy", term.dy);
      named("dh", term.dh);
    }
    for (const Step& each : s.group) {
      text << " + " << graph.nodes[each.node].path;
      for (const slot::Slot at : {slot::y, slot::aux}) named(slot::kNames[at], each.buffers[at]);
    }
    for (const int id : s.gradients) named("gradient", id);
    named("offset", s.offset);
    named("parameter", s.parameter);
    if (s.accumulate) text << " accumulates";
    text << '\n';
  }
  return text.str();
}

std::string Plan::arena_text() const {
  std::ostringstream text;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& b = buffers[i];
    if (b.first < 0) continue;
    text << '#' << i << " [" << b.offset << ", " << b.offset + b.bytes << ") steps " << b.first << ".." << b.last << ' '
         << name_of(b.category) << ' ' << name_of(b.dtype) << ' ' << b.name;
    if (b.within >= 0) text << " within #" << b.within;
    text << '\n';
  }
  return text.str();
}

}  // namespace lowrank
