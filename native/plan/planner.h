// A plan under construction: the step list that a graph's operations emit, the buffers that they use, and how long each
// value lives. It knows no operation.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "device/null.h"
#include "plan/buffers.h"
#include "plan/op.h"
#include "plan/plan.h"
#include "plan/planned_adapter.h"

namespace lowrank {

/// The forward pass is the graph in order. The backward pass visits it in reverse; whatever forward value it needs and
/// was not kept is recomputed on demand, so recompute segments are only a rule about keeping.
class Planner {
 public:
  /// @param sites a plan with only the adapter sites filled in
  Planner(const OpTable& ops, const KernelSizes& sizes, const Graph& graph,
          const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options, Plan sites);
  Planner(const Planner&) = delete;
  Planner& operator=(const Planner&) = delete;
  /// Throws Error("SHAPE"), Error("CONFIG"), or Error("UNSUPPORTED") with the node's path.
  Plan build();

  const Graph& graph() const { return graph_; }
  const PlanOptions& options() const { return options_; }
  const Node& node(int index) const { return graph_.nodes[index]; }
  int64_t cols(int value) const { return graph_.values[value].cols; }
  bool training() const { return options_.mode == Mode::train; }
  DType dtype(int value) const { return graph_.values[value].type == ValueType::residual ? DType::f32 : operand(); }
  DType operand() const { return operand_of(options_.precision); }
  /// Buffers of the plan's inputs: tokens, head rows.
  const Plan& plan() const { return plan_; }

  // Forward values.
  /// The buffer that currently holds a value, or -1.
  int value(int v) const { return value_buffer_[v]; }
  int make_value(int v, const std::string& name) { return value_buffer_[v] = value_like(v, name); }
  void place_value(int v, int buffer) { value_buffer_[v] = buffer; }
  /// Marks the value's buffer as reused.
  void forget(int v) { value_buffer_[v] = -1; }
  /// True if `node` is the last forward reader of a value that is not kept.
  bool may_overwrite(int v, int node, Phase phase) const {
    return phase == Phase::forward && !kept_[v] && graph_.consumers[v].back() == node;
  }
  /// Makes a value available, recomputing the nodes that lead to it if it was not kept.
  int materialize(int v);
  /// A node's additional buffer (statistics), or -1. It is discarded after the forward pass if the node will be
  /// recomputed.
  int& part(int node) { return part_[node]; }
  /// Makes that buffer available by recomputing the node if it was not kept.
  int materialize_part(int node);
  /// A second additional buffer, which is kept.
  int& kept_part(int node) { return kept_part_[node]; }
  /// The operand that a term at a node keeps for its backward pass.
  int hidden(int at, int64_t width);
  /// True if a node will be recomputed in the backward pass.
  bool runs_again(int node) const {
    return in_recomputed_segment(graph_.nodes[node]) && !survives(graph_.nodes[node].out);
  }
  /// True if a reader overwrites a value with its output.
  bool overwritten(int v) const;
  /// True if another step of the backward pass needs a value unchanged.
  bool must_stay(int v) const;

  // Gradients.
  /// The trained parameter that replaces a base weight, or -1.
  int trained_weight(int weight) const;
  bool needs_gradient(int v) const { return needs_gradient_[v]; }
  int gradient(int v) const { return gradient_[v]; }
  int make_gradient(int v, const std::string& name);
  /// Makes the gradient of an input that a node adds to, of zeros, unless another step has made it.
  void start_gradient(int v, int node);
  /// Passes a finished buffer on to a value that has no gradient yet.
  void give_gradient(int v, int buffer);
  /// Fails if a gradient would be modified in place before all readers have used it. A residual's gradient is the same
  /// buffer as that of the linear that added it.
  void expect_unread(int buffer, const std::string& path) const;

  /// Defers a contribution to the gradient of `v` until all its readers are done, then calls `emit` with all of them.
  using Emit = void (*)(Planner& plan, int v, std::vector<GradientTerm> terms);
  void defer(int v, const GradientTerm& share, Emit emit);
  /// The buffer with fp32 parts of the gradient of `v` to add to the product of these contributions, or -1.
  int gradient_part(int v) const { return gradient_part_[v]; }
  /// Lets a step write or add its part of the gradient of `v` there; -1 if `v` needs none.
  /// @param maker names the step in the buffer's name
  int make_gradient_part(Step& step, int v, const std::string& maker);

  // Adapters.
  /// Sites at a node: of the trained adapter, or of all adapters.
  const std::vector<AdapterSite>& sites(int node) const { return plan_.sites[node]; }

  // Steps.
  int add_buffer(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) {
    return buffers_.add(name, category, dtype, rows, cols);
  }
  /// True if the device multiplies operands as one where they lie beside each other.
  bool joins_operands() const { return null_.sizes().joins_operands(); }
  /// True if texts are continued side by side, each row with adapters of its own.
  /// @param ranks of an adapter
  bool multiplies_by_row(int64_t depth, int64_t ranks) const {
    return options_.mode == Mode::forward && null_.sizes().multiplies_by_row(depth, kMostAdapters * ranks);
  }
  /// Lays operands of tokens beside each other in the rows of one buffer, if the device joins them: of the wider one in
  /// which one of them lies already, else of a new one.
  void lay_beside(const std::string& name, const std::vector<int>& operands) { buffers_.lay_beside(name, operands); }
  /// A buffer for operands behind those of another in the same rows, shared by all its readers; -1 if the device does
  /// not join operands, or the other has rows without gaps. @param cols at its first use
  int tail(int buffer, int64_t cols) { return buffers_.tail(buffer, cols); }
  /// Requires the buffer's rows to follow each other, without a gap.
  void keep_dense(int buffer) { buffers_.keep_dense(buffer); }
  /// True if a reader of a value needs rows without gaps.
  bool read_dense(int v) const;
  Step step(const StepKind& kind, Phase phase, int node) const;
  /// Records that a step may use all trained parameters at a node.
  void touch(Step& step, int node) const;
  /// Multiply-adds of a product with a linear layer's weight.
  double products(int linear) const;
  /// Records that a step multiplies with a linear layer's weight.
  void read_weight(Step& step, int linear) const;
  /// Measures the step's workspace by running it on a device that does not compute, and appends it.
  void push(Step step);
  /// @param rows held at once
  void set_logits(int buffer, int64_t rows) {
    plan_.logits = buffer;
    plan_.head_chunk = rows;
  }

 private:
  /// Shares of a value's gradient that wait for its other readers.
  struct Pending {
    std::vector<GradientTerm> shares;
    Emit emit = nullptr;
  };

  const OpRules& rules(const Node& node) const { return *ops_[static_cast<size_t>(node.op)]; }
  void check_options() const;
  void place_states();

  // What needs a gradient, and what is kept.
  /// Parameters of the adapter that train at a node: of its terms, and copies of the node's weights.
  std::vector<int> trained_at(int node) const;
  void find_gradients();
  void find_kept();
  void find_offloaded();
  /// The last block is never recomputed: its activations are consumed as soon as they are made.
  bool in_recomputed_segment(const Node& node) const {
    return options_.recompute && node.segment >= 0 && node.segment != graph_.last_segment;
  }
  /// Attention is the one part of a block whose cost grows with the square of the tokens.
  bool keeps_attention(const Node& node) const;
  /// True if a value of the forward pass exists in the backward pass without recomputation.
  bool survives(int v) const { return kept_[v] || offset_[v] >= 0; }

  // Steps.
  int value_like(int v, const std::string& name);
  void make_inputs();
  void forward(int index, Phase phase) { rules(graph_.nodes[index]).forward(*this, index, phase); }
  /// Discards what does not survive the forward pass.
  void discard();
  void backward(int index);
  /// Emits the gradient that the readers of a value left until all of them had their turn.
  void flush(int v);
  /// Brings a value to the file, or back from it.
  void move(const StepKind& kind, Phase phase, int v);

  void find_lifetimes();
  void find_peak();

  const Graph& graph_;
  const OpTable& ops_;
  const std::vector<const AdapterSpec*>& adapters_;
  const PlanOptions options_;
  NullDevice null_;
  Plan plan_;
  Buffers buffers_;
  std::vector<PlannedAdapter> planned_;
  std::vector<AdapterRun*> runs_;
  std::vector<bool> needs_gradient_, kept_;  // by value
  std::vector<int64_t> offset_;              // where each value lies in the file, or -1
  std::vector<int> value_buffer_;            // where each forward value now lies, or -1
  std::vector<int> part_, kept_part_;        // of each node, or -1
  std::vector<int> gradient_;                // gradient of each value, or -1
  std::vector<int> gradient_part_;           // see gradient_part
  std::vector<Pending> pending_;             // by value
};

}  // namespace lowrank
