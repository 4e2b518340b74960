#include "ops/rope.h"

#include "core/error.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace rope_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  y = slot::y,    // rotated in place
  dx = slot::dx,  // and back
};

void shape(const NodeCheck& check) {
  const Node& node = check.node;
  const int64_t cols = check.input().cols;
  check.expect_operands();
  check.expect(cols == int64_t{node.heads} * node.head_dim && check.out().cols == cols, "width is not heads x headDim");
  const std::vector<Rotary>& ropes = check.graph.ropes;
  check.expect(node.table >= 0 && node.table < static_cast<int>(ropes.size()),
               "the graph has no rotation of its number");
  const Rotary& rope = ropes[node.table];
  check.expect(!rope.inv_freq.empty() && node.head_dim >= 2 * static_cast<int64_t>(rope.inv_freq.size()),
               "invFreq of its rotation must have 1 to headDim / 2 numbers");
  check.expect(rope.growth == 0 || rope.growth_every > 0, "its rotation must grow every so many positions");
  check.expect(
      rope.long_inv_freq.empty() || (rope.long_inv_freq.size() == rope.inv_freq.size() && rope.long_above > 0 &&
                                     rope.long_above == check.graph.long_above()),
      "the frequencies of long sequences must be as many as of others, and above one length for all rotations");
}

void rotate(Run& run, const Step& s, int buffer, bool inverse) {
  const Node& n = run.node(s);
  const Rotary& rope = run.graph.ropes[n.table];
  const auto pairs = static_cast<int32_t>(rope.inv_freq.size());
  const Ptr<float> cos = run.ropes + rope_table_floats(run.graph, n.table, run.positions);
  const Ptr<float> sin = cos + rope_rows(rope, run.positions) * pairs;
  const int rows = rope.long_inv_freq.empty() ? run.plan.positions : run.plan.rope_rows;
  run.launch(
      Rope{run.tokens, n.heads, n.head_dim, 2 * pairs, run.matrix(buffer), run.at<int32_t>(rows), cos, sin, inverse});
}

/// y in place
void run_forward(Run& run, const Step& s) { rotate(run, s, s[Role::y], false); }
/// dx in place
void run_backward(Run& run, const Step& s) { rotate(run, s, s[Role::dx], true); }

constexpr StepKind kForward{"rope", roles<Role>, run_forward};
constexpr StepKind kBackward{"rope_backward", roles<Role>, run_backward};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  if (plan.graph().consumers[x].size() != 1)
    fail("UNSUPPORTED", "rope at ", node.path, ": its input, which it overwrites, has other readers");
  Step step = plan.step(kForward, phase, index);
  step[Role::y] = plan.value(x);
  step.writes = {step[Role::y]};
  plan.forget(x);
  plan.place_value(node.out, step[Role::y]);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  Step step = plan.step(kBackward, Phase::backward, index);
  step[Role::dx] = dy;
  step.writes = {dy};
  plan.push(std::move(step));
  plan.give_gradient(plan.node(index).inputs[0], dy);
}

}  // namespace rope_op

int64_t rope_rows(const Rotary& rope, int64_t positions) {
  return rope.long_inv_freq.empty() ? positions : 2 * positions;
}

int64_t rope_table_floats(const Graph& graph, size_t first, int64_t positions) {
  int64_t floats = 0;
  for (size_t i = 0; i < first; ++i) {
    const Rotary& rope = graph.ropes[i];
    floats += 2 * rope_rows(rope, positions) * static_cast<int64_t>(rope.inv_freq.size());
  }
  return floats;
}

/// Rotates q and k with one of the graph's rotations, by default the first; positions restart at every sequence.
LOWRANK_NODE(rope, inputs(x), integer(heads), integer(headDim), optional(integer(table)));
const OpRules rope{
    .overwrites = true, .shape = rope_op::shape, .forward = rope_op::forward, .backward = rope_op::backward};

}  // namespace lowrank
