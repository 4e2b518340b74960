// Converts the residual stream to an operand, for linear layers that read it without a norm.
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace cast_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  y = slot::y,
  dy = slot::dy,
  dx = slot::dx,
};

void shape(const NodeCheck& check) {
  check.expect(check.input().cols == check.out().cols, "output and input differ in width");
  check.expect(check.input().type == ValueType::residual, "its input must be residual");
  check.expect(check.out().type == ValueType::operand, "its output must be an operand");
}

/// x -> y
void run_forward(Run& run, const Step& s) {
  run.launch(GatherRows{run.tokens, run.cols(run.node(s).out), run.matrix(s[Role::x]), {}, run.matrix(s[Role::y])});
}

/// dy -> adds to dx
void run_backward(Run& run, const Step& s) {
  run.launch(
      ScatterAddRows{run.tokens, run.cols(run.node(s).out), run.matrix(s[Role::dy]), {}, run.matrix(s[Role::dx])});
}

constexpr StepKind kForward{"cast", roles<Role>, run_forward};
constexpr StepKind kBackward{"cast_backward", roles<Role>, run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  // In fp32 both are the same numbers, and no reader of an operand changes what a linear reads.
  if (plan.operand() == DType::f32) return plan.place_value(node.out, plan.value(x));
  Step step = plan.step(kForward, phase, index);
  step[Role::x] = plan.value(x);
  step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (!plan.needs_gradient(x)) return;
  plan.start_gradient(x, index);
  plan.expect_unread(plan.gradient(x), node.path);
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::dy] = dy;
  step[Role::dx] = plan.gradient(x);
  step.writes = {step[Role::dx]};
  plan.push(std::move(step));
}

}  // namespace cast_op

/// out = x, converting the residual stream to an operand.
LOWRANK_NODE(cast, inputs(x));
const OpRules cast{.cheap = true, .shape = cast_op::shape, .forward = cast_op::forward, .backward = cast_op::backward};

}  // namespace lowrank
