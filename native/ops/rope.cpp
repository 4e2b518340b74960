#include "ops/rope.h"

#include "core/error.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace {

void rotate(Run& run, const Step& s, int buffer, bool inverse) {
  const Node& n = run.node(s);
  run.launch(Rope{run.tokens, n.heads, n.head_dim, run.matrix(buffer), run.at<int32_t>(run.plan.positions), run.cos,
                  run.sin, inverse});
}

/// y in place
void run_forward(Run& run, const Step& s) { rotate(run, s, s.y, false); }
/// dx in place
void run_backward(Run& run, const Step& s) { rotate(run, s, s.dx, true); }

constexpr StepKind kForward{"rope", run_forward};
constexpr StepKind kBackward{"rope_backward", run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (plan.graph().consumers[x].size() != 1)
    fail("UNSUPPORTED", "rope at ", node.path, ": its input, which it overwrites, has other readers");
  Step step = plan.step(kForward, phase, index);
  step.y = plan.value(x);
  step.writes = {step.y};
  plan.forget(x);
  plan.place_value(node.out, step.y);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  Step step = plan.step(kBackward, Phase::backward, index);
  step.dx = dy;
  step.writes = {dy};
  plan.push(std::move(step));
  plan.give_gradient(plan.node(index).inputs[0], dy);
}

}  // namespace

const OpRules rope{.overwrites = true, .forward = forward, .backward = backward};

}  // namespace lowrank
