#include "graph/graph.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"

namespace lowrank {
namespace {

class Checker {
 public:
  explicit Checker(Graph& graph) : graph_(graph) {}

  void run() {
    graph_.weight_of_name.clear();
    graph_.node_of_path.clear();
    for (size_t i = 0; i < graph_.weights.size(); ++i) {
      const GraphWeight& weight = graph_.weights[i];
      if (weight.rows <= 0 || weight.cols <= 0 || weight.rows > kMostRows || weight.cols > kMostCols)
        fail("SHAPE", "weight ", weight.name, " is [", weight.rows, ", ", weight.cols,
             "]; expected positive dimensions, at most [2^31, 2^24]");
      if (!graph_.weight_of_name.emplace(weight.name, static_cast<int>(i)).second)
        fail("SHAPE", "weight ", weight.name, " is declared twice");
    }
    for (const GraphValue& value : graph_.values)
      if (value.cols <= 0 || value.cols > kMostCols)
        fail("SHAPE", "a value of the graph is ", value.cols, " wide; expected 1 to 2^24");
    graph_.producer.assign(graph_.values.size(), -1);
    graph_.consumers.assign(graph_.values.size(), {});
    for (size_t i = 0; i < graph_.nodes.size(); ++i) check_node(static_cast<int>(i));
    for (size_t v = 0; v < graph_.values.size(); ++v)
      if (graph_.producer[v] < 0) fail("SHAPE", "value ", v, " of the graph is made by no node");
  }

 private:
  // Sizes whose products with a plan's capacities stay within 64 bits.
  static constexpr int64_t kMostRows = int64_t{1} << 31;
  static constexpr int64_t kMostCols = int64_t{1} << 24;

  [[noreturn]] void bad(const Node& node, const std::string& what) const {
    fail("SHAPE", name_of(node.op), " at ", node.path, ": ", what);
  }

  const GraphValue& value(const Node& node, int id) const {
    if (id < 0 || id >= static_cast<int>(graph_.values.size()))
      bad(node, "value " + std::to_string(id) + " does not exist");
    return graph_.values[id];
  }

  /// `vector`: whether it is held as plain fp32, which norms and biases are read as.
  const GraphWeight& weight(const Node& node, int id, int64_t rows, int64_t cols, bool vector = false) const {
    if (id < 0 || id >= static_cast<int>(graph_.weights.size())) bad(node, "its weight does not exist");
    const GraphWeight& w = graph_.weights[id];
    if (w.rows != rows || w.cols != cols)
      bad(node, "weight " + w.name + " is [" + std::to_string(w.rows) + ", " + std::to_string(w.cols) + "] but [" +
                    std::to_string(rows) + ", " + std::to_string(cols) + "] is needed");
    if (vector != (w.kind == WeightKind::vector))
      bad(node, "weight " + w.name + (vector ? " must be" : " must not be") + " declared as a vector");
    return w;
  }

  /// Columns that a norm takes together: of an operand as many as it has weights, if these divide it; else all.
  int64_t norm_group(const Node& node, int64_t cols) const {
    const bool known = node.weight >= 0 && node.weight < static_cast<int>(graph_.weights.size());
    if (!known || value(node, node.inputs[0]).type == ValueType::residual) return cols;
    const int64_t width = graph_.weights[node.weight].cols;
    return cols % width == 0 ? width : cols;
  }

  void use(const Node& node, int index, int id) {
    value(node, id);
    if (graph_.producer[id] < 0) bad(node, "value " + std::to_string(id) + " is read before it is made");
    graph_.consumers[id].push_back(index);
  }

  void expect(const Node& node, bool holds, const char* what) const {
    if (!holds) bad(node, what);
  }

  /// The kernels of these ops take every value in the operand type.
  void expect_operands(const Node& node) const {
    for (const int id : node.inputs)
      expect(node, value(node, id).type == ValueType::operand, "its inputs must be operands");
    if (node.out >= 0) expect(node, value(node, node.out).type == ValueType::operand, "its output must be an operand");
  }

  void check_node(int index) {
    Node& node = graph_.nodes[index];
    if (!graph_.node_of_path.emplace(node.path, index).second) bad(node, "another node has the same path");
    graph_.last_segment = std::max(graph_.last_segment, node.segment);
    const size_t arity = node.op == Op::embedding ? 0 : node.op == Op::attention ? 3 : node.op == Op::swiglu ? 2 : 1;
    expect(node, node.inputs.size() == arity, "wrong number of inputs");
    for (const int id : node.inputs) use(node, index, id);
    if (node.residual >= 0) use(node, index, node.residual);

    if (node.op == Op::lm_head) {
      weight(node, node.weight, graph_.vocab_size, value(node, node.inputs[0]).cols);
      expect_operands(node);
      expect(node, index + 1 == static_cast<int>(graph_.nodes.size()), "must be the last node");
      return;
    }
    const GraphValue& out = value(node, node.out);
    if (graph_.producer[node.out] >= 0) bad(node, "its output is already made by another node");
    graph_.producer[node.out] = index;
    const int64_t in = arity == 0 ? 0 : value(node, node.inputs[0]).cols;
    switch (node.op) {
      case Op::embedding:
        expect(node, weight(node, node.weight, graph_.vocab_size, out.cols).kind == WeightKind::table,
               "its weight must be declared as a table");
        expect(node, out.type == ValueType::residual, "its output must be residual");
        break;
      case Op::rms_norm:
        weight(node, node.weight, 1, norm_group(node, in), true);
        expect(node, out.cols == in, "output and input differ in width");
        expect(node, out.type == ValueType::operand, "its output must be an operand");
        break;
      case Op::linear:
        weight(node, node.weight, out.cols, in);
        if (node.bias >= 0) weight(node, node.bias, 1, out.cols, true);
        expect(node, (node.residual >= 0) == (out.type == ValueType::residual),
               "an output is residual exactly when a residual is added");
        if (node.residual >= 0) {
          const GraphValue& residual = value(node, node.residual);
          expect(node, residual.cols == out.cols && residual.type == ValueType::residual,
                 "the residual differs from the output");
        }
        expect(node, value(node, node.inputs[0]).type == ValueType::operand, "its input must be an operand");
        break;
      case Op::rope:
        expect_operands(node);
        expect(node, in == int64_t{node.heads} * node.head_dim && out.cols == in, "width is not heads x headDim");
        expect(node, node.head_dim == 2 * static_cast<int64_t>(graph_.inv_freq.size()),
               "rope.invFreq must have headDim / 2 numbers");
        break;
      case Op::attention: {
        expect(node, node.heads > 0 && node.kv_heads > 0 && node.heads % node.kv_heads == 0,
               "heads must be a multiple of kvHeads");
        const int64_t q = int64_t{node.heads} * node.head_dim, kv = int64_t{node.kv_heads} * node.head_dim;
        expect(node, in == q && out.cols == q, "q and output must be [T, heads x headDim]");
        expect(node, value(node, node.inputs[1]).cols == kv && value(node, node.inputs[2]).cols == kv,
               "k and v must be [T, kvHeads x headDim]");
        expect_operands(node);
        expect(node, node.window == -1 || node.window > 0, "its window must be at least 1");
        // The key/value cache has one part per attention, of one size, in order.
        expect(node, node.layer == attentions_++, "its layer must be its number among the attention nodes");
        if (kv_width_ == 0) kv_width_ = kv;
        expect(node, kv == kv_width_, "every attention must have keys and values of the same width");
        break;
      }
      case Op::swiglu:
        expect_operands(node);
        expect(node, value(node, node.inputs[1]).cols == in && out.cols == in, "gate, up and output differ in width");
        break;
      case Op::lm_head:
        break;
    }
  }

  Graph& graph_;
  int attentions_ = 0;
  int64_t kv_width_ = 0;
};

}  // namespace

void Graph::check() {
  if (nodes.empty() || nodes.back().op != Op::lm_head) fail("SHAPE", "the graph must end in lm_head");
  Checker(*this).run();
}

std::vector<bool> Graph::tables() const {
  std::vector<bool> tables(weights.size());
  for (const Node& node : nodes)
    if (node.op == Op::embedding || node.op == Op::lm_head) tables[node.weight] = true;
  return tables;
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
