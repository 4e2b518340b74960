#include "graph/graph.h"

#include <sstream>

namespace lowrank {

std::vector<bool> Graph::tables() const {
  std::vector<bool> tables(weights.size());
  for (const Node& node : nodes)
    if (node.op == Op::embedding || node.op == Op::lm_head) tables[node.weight] = true;
  return tables;
}

int64_t Graph::long_above() const {
  for (const Rotary& rope : ropes)
    if (!rope.long_inv_freq.empty()) return rope.long_above;
  return 0;
}

int64_t Graph::parameters() const {
  int64_t total = 0;
  for (const GraphWeight& weight : weights) total += weight.rows * weight.cols;
  return total;
}

std::string Graph::to_text() const {
  std::ostringstream text;
  for (const Node& node : nodes) {
    text << name_of(node.op) << ' ' << node.path << " (";
    for (size_t i = 0; i < node.inputs.size(); ++i) text << (i ? ", %" : "%") << node.inputs[i];
    if (node.residual >= 0) text << ", +%" << node.residual;
    text << ')';
    if (node.window >= 0) text << " window " << node.window;
    if (node.out >= 0) text << " -> %" << node.out << " [T, " << values[node.out].cols << ']';
    if (node.segment >= 0) text << "  segment " << node.segment;
    text << '\n';
  }
  return text.str();
}

}  // namespace lowrank
