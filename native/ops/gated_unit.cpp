// y = function(gate) * up (Shazeer 2020, arXiv 2002.05202); kernels/gated_unit.h has the functions.
#include "core/error.h"
#include "kernels/gated_unit.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace gated_unit_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  gate = slot::x,
  up = slot::x2,
  y = slot::y,
  dy = slot::dy,
  dgate = slot::dq,
  dup = slot::dk,
};

/// Gate and up are the halves of one value.
bool halves(const Node& node) { return node.inputs[0] == node.inputs[1]; }

void shape(const NodeCheck& check) {
  const int64_t cols = check.input(0).cols;
  check.expect_operands();
  if (halves(check.node))
    return check.expect(cols == 2 * check.out().cols, "its output must be half as wide as its input");
  check.expect(check.input(1).cols == cols && check.out().cols == cols, "gate, up and output differ in width");
}

/// Where up lies, or its gradient: in a buffer of its own, or beside the gate's.
Matrix beside(const Run& run, const Step& s, int buffer) {
  const Node& node = run.node(s);
  return run.matrix(buffer).columns(halves(node) ? run.cols(node.out) : 0);
}

/// gate, up -> y
void run_forward(Run& run, const Step& s) {
  const Node& node = run.node(s);
  run.launch(GatedUnit{node.function, run.tokens, run.cols(node.out), run.matrix(s[Role::gate]),
                       beside(run, s, s[Role::up]), run.matrix(s[Role::y])});
}

/// gate, up, dy -> dgate, dup; without these in place of gate and up
void run_backward(Run& run, const Step& s) {
  const Node& node = run.node(s);
  run.launch(GatedUnitBackward{node.function, run.tokens, run.cols(node.out), run.matrix(s[Role::dy]),
                               run.matrix(s[Role::gate]), beside(run, s, s[Role::up]),
                               run.matrix(s[Role::dgate] < 0 ? s[Role::gate] : s[Role::dgate]),
                               beside(run, s, s[Role::dup] < 0 ? s[Role::up] : s[Role::dup])});
}

constexpr StepKind kForward{GatedUnit::kName, roles<Role>, run_forward};
constexpr StepKind kBackward{GatedUnitBackward::kName, roles<Role>, run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int gate = node.inputs[0];
  Step step = plan.step(kForward, phase, index);
  step[Role::gate] = plan.value(gate);
  step[Role::up] = plan.value(node.inputs[1]);
  if (!halves(node) && plan.may_overwrite(gate, index, phase))
    plan.place_value(node.out, step[Role::y] = step[Role::gate]);
  else
    step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int gate = node.inputs[0], up = node.inputs[1];
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::gate] = plan.materialize(gate);
  step[Role::up] = plan.materialize(up);
  step[Role::dy] = dy;
  for (const int v : node.inputs)
    for (const int reader : plan.graph().consumers[v])
      if (reader != index) fail("UNSUPPORTED", name_of(node.op), " at ", node.path, ": its inputs have other readers");
  const bool whole = halves(node);
  if (plan.must_stay(gate) || plan.must_stay(up)) {
    step[Role::dgate] =
        plan.make_gradient(gate, node.path + (whole ? " gradient of gate and up" : " gradient of gate"));
    step[Role::dup] = whole ? step[Role::dgate] : plan.make_gradient(up, node.path + " gradient of up");
    step.writes = {step[Role::dgate]};
    if (!whole) step.writes.push_back(step[Role::dup]);
    return plan.push(std::move(step));
  }
  step.writes = {step[Role::gate]};
  if (!whole) step.writes.push_back(step[Role::up]);
  plan.push(std::move(step));
  // The gradients take the place of gate and up, which only this node reads.
  const auto hand_over = [&](int v) {
    plan.give_gradient(v, plan.value(v));
    plan.forget(v);
  };
  hand_over(gate);
  if (!whole) hand_over(up);
}

}  // namespace gated_unit_op

/// out = function(gate) up. If both are the same value, its first half is the gate and its second half is up.
LOWRANK_NODE(gated_unit, inputs(gate, up), Activation(function));
const OpRules gated_unit{.cheap = true,
                         .shape = gated_unit_op::shape,
                         .forward = gated_unit_op::forward,
                         .backward = gated_unit_op::backward};

}  // namespace lowrank
