// The plan in the making, as operations see it. It knows values, lifetimes and recomputing, and no operation.
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
  /// Buffers of the plan's inputs: tokens, rows of the head.
  virtual const Plan& plan() const = 0;

  // Forward values.
  /// The buffer where a value now lies, or -1.
  virtual int value(int v) const = 0;
  virtual int make_value(int v, const std::string& name) = 0;
  virtual void place_value(int v, int buffer) = 0;
  /// Its buffer now holds something else.
  virtual void forget(int v) = 0;
  /// True if `node` is the last forward reader of a value that nothing keeps.
  virtual bool may_overwrite(int v, int node, Phase phase) const = 0;
  /// Makes a value available, running again the nodes that lead to it where it was not kept.
  virtual int materialize(int v) = 0;
  /// The buffer that a node has beside its output (statistics), or -1. It is forgotten after the forward pass where the
  /// node will run again.
  virtual int& part(int node) = 0;
  /// Makes it available by running the node again where it was not kept.
  virtual int materialize_part(int node) = 0;
  /// A second buffer of a node, which stays.
  virtual int& kept_part(int node) = 0;
  /// The operand that a term at a node keeps for its backward pass.
  int hidden(int at, int64_t width) {
    if (part(at) < 0)
      part(at) = add_buffer(node(at).path + " x A^T", Category::activations, operand(), RowKind::tokens, width);
    return part(at);
  }
  /// True if a node will be run again in the backward pass.
  virtual bool runs_again(int node) const = 0;
  /// True if a reader puts its output in the place of a value.
  virtual bool overwritten(int v) const = 0;
  /// True if a value must stay unchanged for another step of the backward pass.
  virtual bool must_stay(int v) const = 0;

  // Gradients.
  /// The trained parameter that stands in for a weight of the base, or -1.
  virtual int trained_weight(int weight) const = 0;
  virtual bool needs_gradient(int v) const = 0;
  virtual int gradient(int v) const = 0;
  virtual int make_gradient(int v, const std::string& name) = 0;
  /// Hands a finished buffer on to a value that has no gradient yet.
  virtual void give_gradient(int v, int buffer) = 0;
  /// Fails where a gradient is to be added to in place before all have read it.
  virtual void expect_unread(int buffer, const std::string& path) const = 0;

  /// Leaves a share of the gradient of `v` until all its readers had their turn, then calls `emit` with all of them.
  using Emit = void (*)(Planner& plan, int v, std::vector<GradientTerm> terms);
  virtual void defer(int v, const GradientTerm& share, Emit emit) = 0;
  /// The buffer of fp32 parts of the gradient of `v` that join the product of these shares, or -1.
  virtual int gradient_part(int v) const = 0;
  /// Lets a step write the gradient of `v` there by itself, or add to it. @param maker names the step in the buffer's name
  virtual void make_gradient_part(Step& step, int v, const std::string& maker) = 0;

  // Adapters.
  /// Sites at a node: of the adapter that trains, or of all.
  virtual const std::vector<AdapterSite>& sites(int node) const = 0;

  // Steps.
  virtual int add_buffer(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) = 0;
  Step step(const StepKind& kind, Phase phase, int node) const {
    Step made;
    made.kind = &kind;
    made.phase = phase;
    made.node = node;
    return made;
  }
  /// Notes that a step may use whatever trains at a node.
  virtual void touch(Step& step, int node) const = 0;
  /// Multiply-adds of a product with the weight of a linear.
  double products(int linear) const {
    return static_cast<double>(options().tokens) *
           (static_cast<double>(cols(node(linear).inputs[0])) * static_cast<double>(cols(node(linear).out)));
  }
  /// Notes that a step multiplies with the weight of a linear.
  void read_weight(Step& step, int linear) const {
    const int weight = node(linear).weight;
    if (plan().copies[weight].adapter < 0) step.weights.push_back(weight);
    step.multiply_adds += products(linear);
    touch(step, linear);
  }
  /// Counts the step's workspace by running it where nothing is computed, and appends it.
  virtual void push(Step step) = 0;
  virtual void set_head_chunk(int64_t rows) = 0;
};

}  // namespace lowrank
