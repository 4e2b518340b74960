#include "ops/check.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "ops/list.h"
#include "ops/ops.h"

namespace lowrank {
namespace {

// Sizes whose products with a plan's capacities stay within 64 bits.
constexpr int64_t kMostRows = int64_t{1} << 31;
constexpr int64_t kMostCols = int64_t{1} << 24;

void check_weights(Graph& graph) {
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const GraphWeight& weight = graph.weights[i];
    if (weight.rows <= 0 || weight.cols <= 0 || weight.rows > kMostRows || weight.cols > kMostCols)
      fail("SHAPE", "weight ", weight.name, " is [", weight.rows, ", ", weight.cols,
           "]; expected positive dimensions, at most [2^31, 2^24]");
    if (!graph.weight_of_name.emplace(weight.name, static_cast<int>(i)).second)
      fail("SHAPE", "weight ", weight.name, " is declared twice");
  }
}

size_t inputs_of(Op op) {
  const auto& roles = kOpInputs[static_cast<int>(op)];
  return static_cast<size_t>(std::count_if(std::begin(roles), std::end(roles), [](const char* role) { return role; }));
}

void check_node(Graph& graph, int index) {
  const NodeCheck check(graph, index);
  Node& node = graph.nodes[index];
  if (!graph.node_of_path.emplace(node.path, index).second) check.bad("another node has the same path");
  graph.last_segment = std::max(graph.last_segment, node.segment);
  check.expect(node.inputs.size() == inputs_of(node.op), "wrong number of inputs");
  const auto use = [&](int id) {
    check.value(id);
    if (graph.producer[id] < 0) check.bad("value " + std::to_string(id) + " is read before it is made");
    graph.consumers[id].push_back(index);
  };
  for (const int id : node.inputs) use(id);
  if (node.residual >= 0) use(node.residual);
  if (!ends(node.op)) {
    check.out();
    if (graph.producer[node.out] >= 0) check.bad("its output is already made by another node");
    graph.producer[node.out] = index;
  }
  kOps[static_cast<size_t>(node.op)]->shape(check);
}

}  // namespace

void NodeCheck::bad(const std::string& what) const { fail("SHAPE", name_of(node.op), " at ", node.path, ": ", what); }

void NodeCheck::expect(bool holds, const char* what) const {
  if (!holds) bad(what);
}

const GraphValue& NodeCheck::value(int id) const {
  if (id < 0 || id >= static_cast<int>(graph.values.size())) bad("value " + std::to_string(id) + " does not exist");
  return graph.values[id];
}

const GraphWeight& NodeCheck::weight(int id) const {
  if (id < 0 || id >= static_cast<int>(graph.weights.size())) bad("its weight does not exist");
  return graph.weights[id];
}

const GraphWeight& NodeCheck::weight(int id, int64_t rows, int64_t cols, bool vector) const {
  const GraphWeight& w = weight(id);
  if (w.rows != rows || w.cols != cols)
    bad("weight " + w.name + " is [" + std::to_string(w.rows) + ", " + std::to_string(w.cols) + "] but [" +
        std::to_string(rows) + ", " + std::to_string(cols) + "] is needed");
  if (vector != (w.kind == WeightKind::vector))
    bad("weight " + w.name + (vector ? " must be" : " must not be") + " declared as a vector");
  return w;
}

void NodeCheck::expect_operands() const {
  for (const int id : node.inputs) expect(value(id).type == ValueType::operand, "its inputs must be operands");
  if (node.out >= 0) expect(out().type == ValueType::operand, "its output must be an operand");
}

void check_graph(Graph& graph) {
  if (graph.nodes.empty() || !ends(graph.nodes.back().op))
    fail("SHAPE", "the graph must end in lm_head, or in send if it is a part of a model");
  if (graph.labels == 0) graph.labels = graph.vocab_size;
  graph.weight_of_name.clear();
  graph.node_of_path.clear();
  check_weights(graph);
  for (const GraphValue& value : graph.values)
    if (value.cols <= 0 || value.cols > kMostCols)
      fail("SHAPE", "a value of the graph is ", value.cols, " wide; expected 1 to 2^24");
  graph.producer.assign(graph.values.size(), -1);
  graph.consumers.assign(graph.values.size(), {});
  for (size_t i = 0; i < graph.nodes.size(); ++i) check_node(graph, static_cast<int>(i));
  for (size_t v = 0; v < graph.values.size(); ++v)
    if (graph.producer[v] < 0) fail("SHAPE", "value ", v, " of the graph is made by no node");
}

}  // namespace lowrank
