// out = residual + x, for branches that end in a norm instead of a linear layer.
#include "core/error.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace add_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  residual = slot::residual,
  y = slot::y,  // may be the residual
  dy = slot::dy,
  dx = slot::dx,
};

void shape(const NodeCheck& check) {
  const GraphValue& out = check.out();
  const GraphValue& residual = check.value(check.node.residual);
  check.expect(check.input().cols == out.cols && residual.cols == out.cols, "inputs and output differ in width");
  check.expect(check.input().type == ValueType::operand, "its input must be an operand");
  check.expect(residual.type == ValueType::residual && out.type == ValueType::residual,
               "its residual and output must be residual");
}

/// x, residual -> y
void run_forward(Run& run, const Step& s) {
  const int64_t cols = run.cols(run.node(s).out);
  const Matrix y = run.matrix(s[Role::y]);
  if (s[Role::y] != s[Role::residual]) run.launch(GatherRows{run.tokens, cols, run.matrix(s[Role::residual]), {}, y});
  run.launch(ScatterAddRows{run.tokens, cols, run.matrix(s[Role::x]), {}, y});
}

/// dy -> dx, as an operand
void run_backward(Run& run, const Step& s) {
  run.launch(GatherRows{run.tokens, run.cols(run.node(s).out), run.matrix(s[Role::dy]), {}, run.matrix(s[Role::dx])});
}

constexpr StepKind kForward{"add", roles<Role>, run_forward};
constexpr StepKind kBackward{"add_backward", roles<Role>, run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step[Role::x] = plan.value(node.inputs[0]);
  step[Role::residual] = plan.value(node.residual);
  if (plan.may_overwrite(node.residual, index, phase))
    plan.place_value(node.out, step[Role::y] = step[Role::residual]);
  else
    step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (plan.needs_gradient(x)) {
    Step step = plan.step(kBackward, Phase::backward, index);
    step[Role::dy] = dy;
    step[Role::dx] = plan.make_gradient(x, "gradient of " + node.path + " input");
    step.writes = {step[Role::dx]};
    plan.push(std::move(step));
  }
  // The residual's gradient is dy itself, which later steps add to in place.
  plan.give_gradient(node.residual, dy);
}

}  // namespace add_op

/// out = residual + x
LOWRANK_NODE(add, inputs(x), value(residual));
const OpRules add{.shape = add_op::shape, .forward = add_op::forward, .backward = add_op::backward};

}  // namespace lowrank
