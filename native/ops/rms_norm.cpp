// y = x / rms(x) * w, or * (1 + w), over each row, or over groups of columns if w is shorter, as for per-head norms of
// queries and keys (Zhang and Sennrich 2019, arXiv 1910.07467).
#include "kernels/norm.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace rms_norm_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  y = slot::y,
  rstd = slot::aux,  // f32 [T, groups], 1 / rms
  dy = slot::dy,
  dx = slot::dx,
};

/// An operand's columns are normalized in groups if the number of weights divides them.
void shape(const NodeCheck& check) {
  const GraphValue& x = check.input();
  const int64_t weights = check.weight(check.node.weight).cols;
  const bool grouped = x.type == ValueType::operand && x.cols % weights == 0;
  check.vector(check.node.weight, grouped ? weights : x.cols);
  check.expect(check.out().cols == x.cols, "output and input differ in width");
  check.expect(check.out().type == ValueType::operand, "its output must be an operand");
}

/// Columns that are normalized together: as many as there are weights.
int64_t group(const Graph& graph, const Node& node) { return graph.weights[node.weight].cols; }

/// Groups of a row's columns.
int64_t groups(const Graph& graph, const Node& node) { return graph.values[node.out].cols / group(graph, node); }

/// from * scale, in the step's workspace; without a scale `from` itself
Ptr<float> scaled(Run& run, Ptr<float> from, int64_t count, float scale) {
  if (scale == 0) return from;
  const Ptr<float> to = run.room->take<float>(count);
  run.launch(Fold{1, count, count, scale, 1, from, {}, {}, {}, {}, to});
  return to;
}

/// (weight + offset) * scale, in the step's workspace; without either the weight itself
Ptr<float> gain(Run& run, const Node& n) {
  const int64_t count = group(run.graph, n);
  const float scale = n.scale == 0 && n.offset != 0 ? 1 : n.scale;
  const Ptr<float> made = scaled(run, run.vector(n.weight), count, scale);
  if (n.offset != 0) run.launch(AddConstant{count, n.offset * scale, made});
  return made;
}

/// x -> y, rstd
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(RmsNorm{run.tokens, groups(run.graph, n), group(run.graph, n), run.matrix(s[Role::x]), gain(run, n), n.eps,
                     run.matrix(s[Role::y]), run.at<float>(s[Role::rstd])});
}

/// x, rstd, dy -> adds to dx, or replaces dy
void run_backward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(RmsNormBackward{run.tokens, groups(run.graph, n), group(run.graph, n), run.matrix(s[Role::dy]),
                             run.matrix(s[Role::x]), gain(run, n), run.at<float>(s[Role::rstd]),
                             run.matrix(s[Role::dx])});
}

/// x, rstd, dy -> adds to the gradient of the weight
void run_gradient(Run& run, const Step& s) {
  const Node& n = run.node(s);
  const int64_t in_row = groups(run.graph, n);
  const Ptr<float> rstd = scaled(run, run.at<float>(s[Role::rstd]), run.tokens * in_row, n.scale);
  run.launch(NormGradient{run.tokens, in_row, group(run.graph, n), run.matrix(s[Role::dy]), run.matrix(s[Role::x]),
                          rstd, run.weight_gradient(n.weight)});
}

constexpr StepKind kForward{RmsNorm::kName, roles<Role>, run_forward};
constexpr StepKind kBackward{RmsNormBackward::kName, roles<Role>, run_backward};
constexpr StepKind kGradient{NormGradient::kName, roles<Role>, run_gradient};

/// The residual stream has other readers; an operand is the norm's own.
bool is_operand(const Planner& plan, int value) { return plan.graph().values[value].type == ValueType::operand; }

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  Step step = plan.step(kForward, phase, index);
  step[Role::x] = plan.value(x);
  if (is_operand(plan, x) && plan.may_overwrite(x, index, phase))
    plan.place_value(node.out, step[Role::y] = step[Role::x]);
  else
    step[Role::y] = plan.make_value(node.out, node.path);
  int& rstd = plan.part(index);
  if (rstd < 0)
    rstd = plan.add_buffer(node.path + " rstd", Category::activations, DType::f32, RowKind::tokens,
                           groups(plan.graph(), node));
  step[Role::rstd] = rstd;
  step.writes = {step[Role::y], step[Role::rstd]};
  plan.touch(step, index);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (const int trained = plan.trained_weight(node.weight); trained >= 0) {
    Step step = plan.step(kGradient, Phase::backward, index);
    step[Role::x] = plan.materialize(x);
    step[Role::rstd] = plan.materialize_part(index);
    step[Role::dy] = dy;
    step.adds = {trained};
    plan.touch(step, index);
    plan.push(std::move(step));
  }
  if (!plan.needs_gradient(x)) return;
  if (is_operand(plan, x))
    plan.give_gradient(x, dy);
  else
    plan.start_gradient(x, index);
  plan.expect_unread(plan.gradient(x), node.path);
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::x] = plan.materialize(x);
  step[Role::rstd] = plan.materialize_part(index);
  step[Role::dy] = dy;
  step[Role::dx] = plan.gradient(x);
  step.writes = {step[Role::dx]};
  plan.touch(step, index);
  plan.push(std::move(step));
}

}  // namespace rms_norm_op

/// out = x / rms(x) scale (weight + offset), over the whole row or over groups of columns as wide as the weight;
/// default offset 0.
LOWRANK_NODE(rms_norm, inputs(x), weight(weight), number(eps), optional(number(scale)), optional(number(offset)));
const OpRules rms_norm{
    .cheap = true, .shape = rms_norm_op::shape, .forward = rms_norm_op::forward, .backward = rms_norm_op::backward};

}  // namespace lowrank
