#include "ops/rms_norm.h"

#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace {

/// x -> y, aux = rstd
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(RmsNorm{run.tokens, run.cols(n.out), run.matrix(s.x), run.vector(n.weight), n.eps, run.matrix(s.y),
                     run.at<float>(s.aux)});
}

/// x, aux, dy -> adds to dx
void run_backward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(RmsNormBackward{run.tokens, run.cols(n.out), run.matrix(s.dy), run.matrix(s.x), run.vector(n.weight),
                             run.at<float>(s.aux), run.matrix(s.dx)});
}

/// x, aux, dy -> adds to the gradient of the weight
void run_gradient(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(NormGradient{run.tokens, run.cols(n.out), run.matrix(s.dy), run.matrix(s.x), run.at<float>(s.aux),
                          run.weight_gradient(n.weight)});
}

constexpr StepKind kForward{"rms_norm", run_forward};
constexpr StepKind kBackward{"rms_norm_backward", run_backward};
constexpr StepKind kGradient{"norm_gradient", run_gradient};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step.x = plan.value(node.inputs[0]);
  step.y = plan.make_value(node.out, node.path);
  int& rstd = plan.part(index);
  if (rstd < 0) rstd = plan.add_buffer(node.path + " rstd", Category::activations, DType::f32, RowKind::tokens, 1);
  step.aux = rstd;
  step.writes = {step.y, step.aux};
  plan.touch(step, index);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (const int trained = plan.trained_weight(node.weight); trained >= 0) {
    Step step = plan.step(kGradient, Phase::backward, index);
    step.x = plan.materialize(x);
    step.aux = plan.materialize_part(index);
    step.dy = dy;
    step.adds = {trained};
    plan.touch(step, index);
    plan.push(std::move(step));
  }
  if (!plan.needs_gradient(x)) return;
  if (plan.gradient(x) < 0) {
    Step zero = plan.step(kZero, Phase::backward, index);
    zero.dx = plan.make_gradient(x, "gradient of " + node.path + " input");
    zero.writes = {zero.dx};
    plan.push(std::move(zero));
  }
  plan.expect_unread(plan.gradient(x), node.path);
  Step step = plan.step(kBackward, Phase::backward, index);
  step.x = plan.materialize(x);
  step.aux = plan.materialize_part(index);
  step.dy = dy;
  step.dx = plan.gradient(x);
  step.writes = {step.dx};
  plan.touch(step, index);
  plan.push(std::move(step));
}

}  // namespace

const OpRules rms_norm{.cheap = true, .forward = forward, .backward = backward};

}  // namespace lowrank
