#include "ops/slice.h"

#include "core/error.h"
#include "ops/check.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace {

void shape(const NodeCheck& check) {
  check.expect_operands();
  check.expect(check.node.first >= 0 && check.node.first + check.out().cols <= check.input().cols,
               "its columns must be among those of its input");
}

/// x -> y
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(GatherRows{run.tokens, run.cols(n.out), run.matrix(s.x).columns(n.first), {}, run.matrix(s.y)});
}

/// gradients of all slices (terms) -> dx
void run_join(Run& run, const Step& s) {
  for (const GradientTerm& slice : s.terms) {
    const Node& n = run.graph.nodes[slice.node];
    run.launch(
        GatherRows{run.tokens, run.cols(n.out), run.matrix(slice.dy), {}, run.matrix(s.dx).columns(n.first)});
  }
}

constexpr StepKind kForward{"slice", run_forward};
constexpr StepKind kJoin{"slice_backward", run_join};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step.x = plan.value(node.inputs[0]);
  step.y = plan.make_value(node.out, node.path);
  step.writes = {step.y};
  plan.push(std::move(step));
}

/// The slices come from the last one on.
void emit_join(Planner& plan, int value, std::vector<GradientTerm> slices) {
  const std::string& path = plan.node(slices.front().node).path;
  int64_t end = plan.cols(value);
  for (const GradientTerm& slice : slices) {
    const Node& node = plan.node(slice.node);
    if (node.first + plan.cols(node.out) != end) end = -1;
    if (end >= 0) end = node.first;
  }
  if (end != 0) fail("UNSUPPORTED", path, ": the slices of its input do not make up the whole of it, in order");
  Step step = plan.step(kJoin, Phase::backward, slices.front().node);
  step.dx = plan.make_gradient(value, "gradient of the input of " + path);
  step.terms = std::move(slices);
  step.writes = {step.dx};
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  for (const int reader : plan.graph().consumers[node.inputs[0]])
    if (plan.node(reader).op != Op::slice)
      fail("UNSUPPORTED", "slice at ", node.path, ": its input has other readers");
  plan.defer(node.inputs[0], {index, dy, -1}, emit_join);
}

}  // namespace

const OpRules slice{.cheap = true, .shape = shape, .forward = forward, .backward = backward};

}  // namespace lowrank
