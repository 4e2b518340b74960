// Gated delta rule: linear attention whose state decays and is corrected by each token (Yang et al. 2024, arXiv
// 2412.06464), as in Qwen3.5.
#include <algorithm>

#include "core/math.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace gated_delta_rule_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,  // queries, keys, and values
  beta = slot::q,
  alpha = slot::k,
  y = slot::y,
  states = slot::aux,  // f32, at the end of each chunk
  dy = slot::dy,
  dx = slot::dx,
  dbeta = slot::dq,
  dalpha = slot::dk,
};

/// Tokens between the states that a training plan keeps for the backward pass.
constexpr int64_t kChunk = kDeltaTokens;
/// A state takes as much memory as the keys and values of many tokens, so there are fewer of these than of
/// convolutions.
constexpr int64_t kBlock = state_block(Op::gated_delta_rule);

DeltaHeads heads_of(const Graph& graph, const Node& n) {
  return {n.heads, n.key_heads, n.key_dim, static_cast<int32_t>(graph.values[n.out].cols / n.heads)};
}

void shape(const NodeCheck& check) {
  const Node& node = check.node;
  check.expect_operands();
  check.expect(node.heads > 0 && node.key_heads > 0 && node.heads % node.key_heads == 0,
               "heads must be a multiple of keyHeads");
  check.expect(node.key_dim > 0 && check.out().cols % node.heads == 0,
               "its output must be [T, heads x valueDim], and keyDim at least 1");
  const DeltaHeads heads = heads_of(check.graph, node);
  check.expect(check.input(0).cols == heads.width(), "its input must be [T, 2 keyHeads x keyDim + heads x valueDim]");
  check.expect(check.input(1).cols == node.heads && check.input(2).cols == node.heads,
               "beta and alpha must be [T, heads]");
  check.vector(node.weight, node.heads);
  check.vector(node.bias, node.heads);
}

/// The last state, then those at the end of each block.
int64_t state_bytes(const Graph& graph, const Node& node, const PlanOptions& options) {
  const int64_t floats = heads_of(graph, node).state() * (1 + options.kv_capacity / kBlock);
  return round_up(floats * size_of(DType::f32), 64);
}

DeltaInputs inputs(const Run& run, const Step& s) {
  const Node& n = run.node(s);
  return {run.tokens,
          heads_of(run.graph, n),
          run.host_seqlens,
          run.matrix(s[Role::x]),
          run.matrix(s[Role::beta]),
          run.matrix(s[Role::alpha]),
          run.vector(n.weight),
          run.vector(n.bias)};
}

/// x, beta, alpha -> y, states
void run_forward(Run& run, const Step& s) {
  run.launch(GatedDeltaRule{inputs(run, s),
                            run.matrix(s[Role::y]),
                            0,
                            {},
                            {},
                            kChunk,
                            s[Role::states] < 0 ? Ptr<float>() : run.at<float>(s[Role::states])});
}

/// The same after earlier tokens, whose state it goes on from.
void run_continued(Run& run, const Step& s) {
  const int64_t state = heads_of(run.graph, run.node(s)).state();
  const Ptr<float> last = run.state(s.node).as<float>();
  run.launch(GatedDeltaRule{inputs(run, s), run.matrix(s[Role::y]), run.past, run.at<int32_t>(run.plan.positions), last,
                            kBlock, last + state * (1 + run.past / kBlock)});
}

/// x, beta, alpha, states, dy -> dx, dbeta, dalpha
void run_backward(Run& run, const Step& s) {
  run.launch(GatedDeltaRuleBackward{inputs(run, s), kChunk, run.at<float>(s[Role::states]), run.matrix(s[Role::dy]),
                                    run.matrix(s[Role::dx]), run.matrix(s[Role::dbeta]), run.matrix(s[Role::dalpha])});
}

/// alpha, dalpha -> adds to the gradients of weight and bias
void run_gradient(Run& run, const Step& s) {
  const Node& n = run.node(s);
  run.launch(DeltaRuleGradient{run.tokens, n.heads, run.matrix(s[Role::alpha]), run.matrix(s[Role::dalpha]),
                               run.vector(n.bias), run.weight_gradient(n.weight), run.weight_gradient(n.bias)});
}

constexpr StepKind kForward{"gated_delta_rule", roles<Role>, run_forward};
constexpr StepKind kContinued{"gated_delta_rule_continued", roles<Role>, run_continued, true};
constexpr StepKind kBackward{"gated_delta_rule_backward", roles<Role>, run_backward};
constexpr StepKind kGradient{"gated_delta_rule_gradient", roles<Role>, run_gradient};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(plan.options().mode == Mode::forward ? kContinued : kForward, phase, index);
  step[Role::x] = plan.value(node.inputs[0]);
  step[Role::beta] = plan.value(node.inputs[1]);
  step[Role::alpha] = plan.value(node.inputs[2]);
  step[Role::y] = plan.make_value(node.out, node.path);
  step.writes = {step[Role::y]};
  if (plan.training()) {
    int& states = plan.part(index);
    const int64_t count = std::max<int64_t>(1, plan.options().tokens / kChunk);
    if (states < 0)
      states = plan.add_buffer(node.path + " states", Category::activations, DType::f32, RowKind::fixed,
                               count * heads_of(plan.graph(), node).state());
    // Not all of it is written if the call has fewer tokens, so that none of it can be compared.
    step[Role::states] = states;
  }
  plan.touch(step, index);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::states] = plan.materialize_part(index);
  step[Role::x] = plan.materialize(node.inputs[0]);
  step[Role::beta] = plan.materialize(node.inputs[1]);
  step[Role::alpha] = plan.materialize(node.inputs[2]);
  step[Role::dy] = dy;
  step[Role::dx] = plan.make_gradient(node.inputs[0], node.path + " gradient of input");
  step[Role::dbeta] = plan.make_gradient(node.inputs[1], node.path + " gradient of beta");
  step[Role::dalpha] = plan.make_gradient(node.inputs[2], node.path + " gradient of alpha");
  step.writes = {step[Role::dx], step[Role::dbeta], step[Role::dalpha]};
  Step gradient = plan.step(kGradient, Phase::backward, index);
  gradient[Role::alpha] = step[Role::alpha];
  gradient[Role::dalpha] = step[Role::dalpha];
  plan.touch(step, index);
  plan.push(std::move(step));
  for (const int weight : {node.weight, node.bias})
    if (const int trained = plan.trained_weight(weight); trained >= 0) gradient.adds.push_back(trained);
  if (gradient.adds.empty()) return;
  plan.touch(gradient, index);
  plan.push(std::move(gradient));
}

void rewind(const Run& run, int node) {
  const Ptr<std::byte> last = run.state(node);
  const int64_t bytes = heads_of(run.graph, run.graph.nodes[node]).state() * size_of(DType::f32);
  run.device->memory().copy(last, last + bytes * (run.past / kBlock), bytes);
}

}  // namespace gated_delta_rule_op

/// Gated delta rule (Yang et al. 2024, arXiv 2412.06464). x holds the queries and keys [keyHeads keyDim each] and the
/// values of all heads, in this order; beta and alpha have one column per head. Queries and keys are divided by their
/// norms, queries also by the root of keyDim. Per head and sequence, the state S [keyDim, valueDim] starts at zero: S =
/// e^g S; S = S + k (sigmoid(beta) (v - S^T k))^T; out = S^T q, where g = -exp(weight) softplus(alpha + bias). Each key
/// head serves heads / keyHeads consecutive heads.
LOWRANK_NODE(gated_delta_rule, inputs(x, beta, alpha), weight(weight), weight(bias), integer(heads), integer(keyHeads),
             integer(keyDim), state_block(512));
const OpRules gated_delta_rule{.shape = gated_delta_rule_op::shape,
                               .forward = gated_delta_rule_op::forward,
                               .backward = gated_delta_rule_op::backward,
                               .state_bytes = gated_delta_rule_op::state_bytes,
                               .rewind = gated_delta_rule_op::rewind};

}  // namespace lowrank
