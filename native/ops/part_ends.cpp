// The ends of a part of a model: hidden states come from the rank with the layers before it, and go to the one behind.
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace part_ends_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  y = slot::y,
  dy = slot::dy,
  dx = slot::dx,
};

void shape_received(const NodeCheck& check) {
  check.expect(check.is_first(), "must be the first node");
  check.expect(check.out().type == ValueType::residual, "its output must be residual");
}

void shape_sent(const NodeCheck& check) {
  check.expect(check.is_last(), "must be the last node");
  check.expect(check.input().type == ValueType::residual, "its input must be residual");
}

void run_receive(Run& run, const Step& s) { run.cross(Crossing::input, s[Role::y]); }
void run_send(Run& run, const Step& s) { run.cross(Crossing::output, s[Role::x]); }
void run_receive_gradient(Run& run, const Step& s) { run.cross(Crossing::output_gradient, s[Role::dx]); }
void run_send_gradient(Run& run, const Step& s) { run.cross(Crossing::input_gradient, s[Role::dy]); }

constexpr StepKind kReceive{"receive", roles<Role>, run_receive, true};
constexpr StepKind kSend{"send", roles<Role>, run_send, true};
constexpr StepKind kReceiveGradient{"receive_gradient", roles<Role>, run_receive_gradient, true};
constexpr StepKind kSendGradient{"send_gradient", roles<Role>, run_send_gradient, true};

void forward_received(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kReceive, phase, index);
  step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  plan.push(std::move(step));
}

void backward_received(Planner& plan, int index, int dy) {
  Step step = plan.step(kSendGradient, Phase::backward, index);
  step[Role::dy] = dy;
  plan.push(std::move(step));
}

/// In training also the gradient of what it sends, with which the backward pass begins.
void forward_sent(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  Step step = plan.step(kSend, phase, index);
  step[Role::x] = plan.value(x);
  plan.push(std::move(step));
  if (!plan.training() || !plan.needs_gradient(x)) return;
  Step back = plan.step(kReceiveGradient, Phase::backward, index);
  back[Role::dx] = plan.make_gradient(x, "gradient of " + node.path + " input");
  back.writes = {back[Role::dx]};
  plan.push(std::move(back));
}

}  // namespace part_ends_op

/// First node of a part of a model: out = hidden states from the rank with the layers before it.
LOWRANK_NODE(receive);
const OpRules receive{.differentiated = true,
                      .shape = part_ends_op::shape_received,
                      .forward = part_ends_op::forward_received,
                      .backward = part_ends_op::backward_received};
/// Last node of a part of a model: hands x on to the rank with the layers behind it.
LOWRANK_NODE(send, inputs(x), ends);
const OpRules send{.shape = part_ends_op::shape_sent, .forward = part_ends_op::forward_sent};

}  // namespace lowrank
