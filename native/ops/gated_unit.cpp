#include "ops/gated_unit.h"

#include "core/error.h"
#include "ops/check.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace {

void shape(const NodeCheck& check) {
  const int64_t cols = check.input(0).cols;
  check.expect_operands();
  check.expect(check.input(1).cols == cols && check.out().cols == cols, "gate, up and output differ in width");
}

/// x = gate, x2 = up -> y
template <class Kernel>
void run_forward(Run& run, const Step& s) {
  run.launch(Kernel{run.tokens, run.cols(run.node(s).out), run.matrix(s.x), run.matrix(s.x2), run.matrix(s.y)});
}

/// x = gate, x2 = up, dy -> dq = gradient of gate, dk = of up; without these in place of gate and up
template <class Kernel>
void run_backward(Run& run, const Step& s) {
  run.launch(Kernel{run.tokens, run.cols(run.node(s).out), run.matrix(s.dy), run.matrix(s.x), run.matrix(s.x2),
                    run.matrix(s.dq < 0 ? s.x : s.dq), run.matrix(s.dk < 0 ? s.x2 : s.dk)});
}

template <class Kernel>
constexpr StepKind kForward{Kernel::kName, run_forward<Kernel>};
template <class Kernel>
constexpr StepKind kBackward{Kernel::kName, run_backward<Kernel>};

template <class Kernel>
void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int gate = node.inputs[0];
  Step step = plan.step(kForward<Kernel>, phase, index);
  step.x = plan.value(gate);
  step.x2 = plan.value(node.inputs[1]);
  if (plan.may_overwrite(gate, index, phase))
    plan.place_value(node.out, step.y = step.x);
  else
    step.y = plan.make_value(node.out, node.path);
  step.writes = {step.y};
  plan.push(std::move(step));
}

template <class Kernel>
void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int gate = node.inputs[0], up = node.inputs[1];
  Step step = plan.step(kBackward<Kernel>, Phase::backward, index);
  step.x = plan.materialize(gate);
  step.x2 = plan.materialize(up);
  step.dy = dy;
  for (const int v : node.inputs)
    if (plan.graph().consumers[v].size() != 1)
      fail("UNSUPPORTED", name_of(node.op), " at ", node.path, ": its inputs have other readers");
  if (plan.must_stay(gate) || plan.must_stay(up)) {
    step.dq = plan.make_gradient(gate, node.path + " gradient of gate");
    step.dk = plan.make_gradient(up, node.path + " gradient of up");
    step.writes = {step.dq, step.dk};
    return plan.push(std::move(step));
  }
  step.writes = {step.x, step.x2};
  plan.push(std::move(step));
  // The gradients take the place of gate and up, which only this node reads.
  for (const int v : node.inputs) {
    plan.give_gradient(v, plan.value(v));
    plan.forget(v);
  }
}

}  // namespace

const OpRules swiglu{
    .cheap = true, .shape = shape, .forward = forward<Swiglu>, .backward = backward<SwigluBackward>};
const OpRules geglu{.cheap = true, .shape = shape, .forward = forward<Geglu>, .backward = backward<GegluBackward>};

}  // namespace lowrank
