// out = C conv(B X) for an input with the columns of B, C, and X side by side, where conv is a depthwise causal
// convolution within each sequence, as in LFM2 (Liquid AI 2025, arXiv 2511.23404); and out = silu(conv(x)), as in
// Qwen3.5.
#include "core/math.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace short_conv_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  y = slot::y,
  dy = slot::dy,
  dx = slot::dx,
};

constexpr int64_t kMostTaps = 32;
constexpr int64_t kBlock = state_block(Op::short_conv);
static_assert(kBlock == state_block(Op::silu_conv));

bool gated(const Node& node) { return node.op == Op::short_conv; }

int64_t channels(const Graph& graph, const Node& node) { return graph.values[node.out].cols; }
int64_t taps(const Graph& graph, const Node& node) { return graph.weights[node.weight].cols / channels(graph, node); }

void shape(const NodeCheck& check) {
  const Node& node = check.node;
  const int64_t cols = check.out().cols, weights = check.weight(node.weight).cols;
  check.expect_operands();
  if (gated(node))
    check.expect(check.input().cols == 3 * cols, "its input must be three times as wide as its output");
  else
    check.expect(check.input().cols == cols, "its input and output differ in width");
  check.expect(weights % cols == 0 && weights / cols <= kMostTaps, "its weight must have 1 to 32 numbers per column");
  check.vector(node.weight, weights);
  if (node.bias >= 0) check.vector(node.bias, cols);
}

bool keeps(const Graph& graph, const Node& node, const PlanOptions& options) {
  return options.mode == Mode::forward && taps(graph, node) > 1;
}

/// Inputs kept per convolution: the last ones, then those at the end of each block.
int64_t kept_rows(const Graph& graph, const Node& node, const PlanOptions& options) {
  return (taps(graph, node) - 1) * (1 + ceil_div(options.kv_capacity, kBlock));
}

int64_t state_bytes(const Graph& graph, const Node& node, const PlanOptions& options) {
  return round_up(kept_rows(graph, node, options) * channels(graph, node) * size_of(DType::f32), 64);
}

/// [kept_rows, channels]
Matrix kept(const Run& run, int node) {
  return {run.state(node), DType::f32, channels(run.graph, run.graph.nodes[node])};
}

ConvWeights weights(const Run& run, const Node& n) {
  return {gated(n), channels(run.graph, n), static_cast<int32_t>(taps(run.graph, n)), run.vector(n.weight),
          n.bias < 0 ? Ptr<float>() : run.vector(n.bias)};
}

/// x -> y
void run_forward(Run& run, const Step& s) {
  const Node& n = run.node(s);
  const ConvWeights conv = weights(run, n);
  const Matrix x = run.matrix(s[Role::x]);
  const Ptr<int32_t> positions = run.at<int32_t>(run.plan.positions);
  const Matrix earlier = keeps(run.graph, n, run.plan.options) ? kept(run, s.node) : Matrix{};
  run.launch(ShortConv{run.tokens, conv, x, positions, earlier, run.matrix(s[Role::y])});
}

/// x -> the inputs that later calls need
void run_keep(Run& run, const Step& s) {
  const Node& n = run.node(s);
  const int64_t cols = channels(run.graph, n);
  const auto count = static_cast<int32_t>(taps(run.graph, n) - 1);
  const Matrix earlier = kept(run, s.node);
  run.launch(KeepConvInputs{run.tokens, run.past, gated(n), cols, count, kBlock, run.matrix(s[Role::x]),
                            run.at<int32_t>(run.plan.positions), earlier,
                            earlier.rows(count * (1 + run.past / kBlock))});
}

/// dy, or if the convolution is not gated the gradient of conv(x), in the step's workspace
Matrix gradient(Run& run, const Step& s, const ConvWeights& conv) {
  if (conv.gated) return run.matrix(s[Role::dy]);
  const Matrix dconv = run.take_operand(conv.cols);
  run.launch(SiluConvSlope{run.tokens, conv, run.matrix(s[Role::x]), run.at<int32_t>(run.plan.positions),
                           run.matrix(s[Role::dy]), dconv});
  return dconv;
}

/// x, dy -> dx
void run_backward(Run& run, const Step& s) {
  const ConvWeights conv = weights(run, run.node(s));
  run.launch(ShortConvBackward{run.tokens, conv, run.matrix(s[Role::x]), run.at<int32_t>(run.plan.positions),
                               gradient(run, s, conv), run.matrix(s[Role::dx])});
}

/// x, dy -> adds to the gradients of weight and bias
void run_gradient(Run& run, const Step& s) {
  const Node& n = run.node(s);
  const ConvWeights conv = weights(run, n);
  run.launch(ShortConvGradient{run.tokens, conv, run.matrix(s[Role::x]), run.at<int32_t>(run.plan.positions),
                               gradient(run, s, conv), run.weight_gradient(n.weight), run.weight_gradient(n.bias)});
}

// Both operations have the same steps.
constexpr StepKind kForward{"short_conv", roles<Role>, run_forward};
constexpr StepKind kKeep{"short_conv_keep", roles<Role>, run_keep, true};
constexpr StepKind kBackward{"short_conv_backward", roles<Role>, run_backward};
constexpr StepKind kGradient{"short_conv_gradient", roles<Role>, run_gradient};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step[Role::x] = plan.value(node.inputs[0]);
  step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  plan.touch(step, index);
  Step keep = plan.step(kKeep, phase, index);
  keep[Role::x] = step[Role::x];
  plan.push(std::move(step));
  if (!keeps(plan.graph(), node, plan.options())) return;
  plan.touch(keep, index);
  plan.push(std::move(keep));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  Step gradient = plan.step(kGradient, Phase::backward, index);
  for (const int weight : {node.weight, node.bias})
    if (const int trained = plan.trained_weight(weight); trained >= 0) gradient.adds.push_back(trained);
  if (!gradient.adds.empty()) {
    gradient[Role::x] = plan.materialize(x);
    gradient[Role::dy] = dy;
    plan.touch(gradient, index);
    plan.push(std::move(gradient));
  }
  if (!plan.needs_gradient(x)) return;
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::x] = plan.materialize(x);
  step[Role::dy] = dy;
  step[Role::dx] = plan.make_gradient(x, "gradient of " + node.path + " input");
  step.writes = {step[Role::dx]};
  plan.touch(step, index);
  plan.push(std::move(step));
}

void rewind(const Run& run, int node) {
  const Matrix rows = kept(run, node);
  const int64_t count = taps(run.graph, run.graph.nodes[node]) - 1;
  run.device->memory().copy(rows.data, rows.rows(count * (run.past / kBlock)).data,
                            count * rows.ld * size_of(rows.dtype));
}

}  // namespace short_conv_op

/// out = C conv(B X), where x holds the columns of B, C, and X in this order, and conv is a causal convolution within
/// each column and sequence; weight [cols, taps] (+ bias). The last tap is for the token itself.
LOWRANK_NODE(short_conv, inputs(x), weight(weight), optional(weight(bias)), state_block(64));
const OpRules short_conv{.cheap = true,
                         .shape = short_conv_op::shape,
                         .forward = short_conv_op::forward,
                         .backward = short_conv_op::backward,
                         .state_bytes = short_conv_op::state_bytes,
                         .rewind = short_conv_op::rewind};
/// out = silu(conv(x)), with the convolution of `short_conv` over all columns of x.
LOWRANK_NODE(silu_conv, inputs(x), weight(weight), optional(weight(bias)), state_block(64));
const OpRules silu_conv = short_conv;

}  // namespace lowrank
