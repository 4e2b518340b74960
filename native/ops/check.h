// Validates a graph: rules for every node, and the shape rule of each operation.
#pragma once

#include <string>

#include "graph/graph.h"

namespace lowrank {

/// A node as seen by the shape rule of its operation. Its inputs, residual, and output exist, and the number of inputs
/// is correct. Violations throw Error("SHAPE") naming the node.
class NodeCheck {
 public:
  NodeCheck(const Graph& graph, int index) : graph(graph), node(graph.nodes[index]), index_(index) {}

  const Graph& graph;
  const Node& node;

  [[noreturn]] void bad(const std::string& what) const;
  void expect(bool holds, const char* what) const;
  const GraphValue& value(int id) const;
  const GraphValue& input(int number = 0) const { return value(node.inputs[number]); }
  const GraphValue& out() const { return value(node.out); }
  const GraphWeight& weight(int id) const;
  const GraphWeight& weight(int id, int64_t rows, int64_t cols) const { return weight(id, rows, cols, false); }
  /// A single-row weight stored as fp32, as required for norms and biases.
  const GraphWeight& vector(int id, int64_t cols) const { return weight(id, 1, cols, true); }
  /// All its values are of the operand type.
  void expect_operands() const;
  bool is_first() const { return index_ == 0; }
  bool is_last() const { return index_ + 1 == static_cast<int>(graph.nodes.size()); }

 private:
  const GraphWeight& weight(int id, int64_t rows, int64_t cols, bool vector) const;

  int index_;
};

}  // namespace lowrank
