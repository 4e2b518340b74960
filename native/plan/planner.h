// A plan under construction, as seen by operations. It manages values and lifetimes, but knows no operation.
#pragma once

#include <string>

#include "plan/op.h"
#include "plan/plan.h"

namespace lowrank {

class Planner {
 public:
  virtual ~Planner() = default;
  virtual const Graph& graph() const = 0;
  virtual const PlanOptions& options() const = 0;
  const Node& node(int index) const { return graph().nodes[index]; }
  int64_t cols(int value) const { return graph().values[value].cols; }
  bool training() const { return options().mode == Mode::train; }
  DType dtype(int value) const { return graph().values[value].type == ValueType::residual ? DType::f32 : operand(); }
  DType operand() const { return operand_of(options().precision); }
  /// Buffers of the plan's inputs: tokens, head rows.
  virtual const Plan& plan() const = 0;

  // Forward values.
  /// The buffer that currently holds a value, or -1.
  virtual int value(int v) const = 0;
  virtual int make_value(int v, const std::string& name) = 0;
  virtual void place_value(int v, int buffer) = 0;
  /// Marks the value's buffer as reused.
  virtual void forget(int v) = 0;
  /// True if `node` is the last forward reader of a value that is not kept.
  virtual bool may_overwrite(int v, int node, Phase phase) const = 0;
  /// Makes a value available, recomputing the nodes that lead to it if it was not kept.
  virtual int materialize(int v) = 0;
  /// A node's additional buffer (statistics), or -1. It is discarded after the forward pass if the node will be
  /// recomputed.
  virtual int& part(int node) = 0;
  /// Makes that buffer available by recomputing the node if it was not kept.
  virtual int materialize_part(int node) = 0;
  /// A second additional buffer, which is kept.
  virtual int& kept_part(int node) = 0;
  /// The operand that a term at a node keeps for its backward pass.
  int hidden(int at, int64_t width) {
    if (part(at) < 0)
      part(at) = add_buffer(node(at).path + " x A^T", Category::activations, operand(), RowKind::tokens, width);
    return part(at);
  }
  /// True if a node will be recomputed in the backward pass.
  virtual bool runs_again(int node) const = 0;
  /// True if a reader overwrites a value with its output.
  virtual bool overwritten(int v) const = 0;
  /// True if another step of the backward pass needs a value unchanged.
  virtual bool must_stay(int v) const = 0;

  // Gradients.
  /// The trained parameter that replaces a base weight, or -1.
  virtual int trained_weight(int weight) const = 0;
  virtual bool needs_gradient(int v) const = 0;
  virtual int gradient(int v) const = 0;
  virtual int make_gradient(int v, const std::string& name) = 0;
  /// Passes a finished buffer on to a value that has no gradient yet.
  virtual void give_gradient(int v, int buffer) = 0;
  /// Fails if a gradient would be modified in place before all readers have used it.
  virtual void expect_unread(int buffer, const std::string& path) const = 0;

  /// Defers a contribution to the gradient of `v` until all its readers are done, then calls `emit` with all of them.
  using Emit = void (*)(Planner& plan, int v, std::vector<GradientTerm> terms);
  virtual void defer(int v, const GradientTerm& share, Emit emit) = 0;
  /// The buffer with fp32 parts of the gradient of `v` to add to the product of these contributions, or -1.
  virtual int gradient_part(int v) const = 0;
  /// Lets a step write or add its part of the gradient of `v` there. @param maker names the step in the buffer's name
  virtual void make_gradient_part(Step& step, int v, const std::string& maker) = 0;

  // Adapters.
  /// Sites at a node: of the trained adapter, or of all adapters.
  virtual const std::vector<AdapterSite>& sites(int node) const = 0;

  // Steps.
  virtual int add_buffer(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) = 0;
  /// True if the device multiplies operands as one where they lie beside each other.
  virtual bool joins_operands() const = 0;
  /// Lays operands of tokens beside each other in the rows of one buffer, if the device joins them: of the wider one in
  /// which one of them lies already, else of a new one.
  virtual void lay_beside(const std::string& name, const std::vector<int>& operands) = 0;
  /// A buffer for operands behind those of another in the same rows, shared by all its readers; -1 if the device does
  /// not join operands, or the other has rows without gaps. @param cols at its first use
  virtual int tail(int buffer, int64_t cols) = 0;
  /// Requires the buffer's rows to follow each other, without a gap.
  virtual void keep_dense(int buffer) = 0;
  /// True if a reader of a value needs rows without gaps.
  virtual bool read_dense(int v) const = 0;
  Step step(const StepKind& kind, Phase phase, int node) const {
    Step made;
    made.kind = &kind;
    made.phase = phase;
    made.node = node;
    return made;
  }
  /// Records that a step may use all trained parameters at a node.
  virtual void touch(Step& step, int node) const = 0;
  /// Multiply-adds of a product with a linear layer's weight.
  double products(int linear) const {
    return static_cast<double>(options().tokens) *
           (static_cast<double>(cols(node(linear).inputs[0])) * static_cast<double>(cols(node(linear).out)));
  }
  /// Records that a step multiplies with a linear layer's weight.
  void read_weight(Step& step, int linear) const {
    const int weight = node(linear).weight;
    if (plan().copies[weight].adapter < 0) step.weights.push_back(weight);
    step.multiply_adds += products(linear);
    touch(step, linear);
  }
  /// Measures the step's workspace by running it on a device that does not compute, and appends it.
  virtual void push(Step step) = 0;
  virtual void set_head_chunk(int64_t rows) = 0;
};

}  // namespace lowrank
