// A range of columns of a value, or of each of its heads, such as the queries in a fused projection to queries, keys,
// and values.
#include "core/error.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace slice_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  y = slot::y,
  dx = slot::dx,
};

/// Parts of the input that the columns are taken from.
int64_t parts(const Node& node) { return node.heads > 0 ? node.heads : 1; }

void shape(const NodeCheck& check) {
  check.expect_operands();
  const Node& node = check.node;
  check.expect(node.heads >= 0 && check.input().cols % parts(node) == 0 && check.out().cols % parts(node) == 0,
               "the widths of its input and output must be multiples of its heads");
  check.expect(node.first >= 0 && node.first + check.out().cols / parts(node) <= check.input().cols / parts(node),
               "its columns must be among those of its input");
}

/// The kernels step from part to part by one stride.
bool reads_dense(const Graph&, const Node& node) { return parts(node) > 1; }

/// A buffer of a value of `cols` columns, a row per part.
Matrix by_part(const Run& run, const Node& n, int buffer, int64_t cols) {
  Matrix rows = run.matrix(buffer);
  if (parts(n) > 1) rows.ld = cols / parts(n);
  return rows;
}

void keep_parts(Planner& plan, const Node& node, int whole, int part) {
  if (!reads_dense(plan.graph(), node)) return;
  plan.keep_dense(whole);
  plan.keep_dense(part);
}

/// Copies the slice of `whole`, or the columns of `whole` from the slice.
void copy(Run& run, const Node& n, int whole, int part, bool back) {
  const Matrix from = by_part(run, n, whole, run.cols(n.inputs[0])).columns(n.first);
  const Matrix to = by_part(run, n, part, run.cols(n.out));
  run.launch(GatherRows{run.tokens * parts(n), run.cols(n.out) / parts(n), back ? to : from, {}, back ? from : to});
}

/// x -> y
void run_forward(Run& run, const Step& s) { copy(run, run.node(s), s[Role::x], s[Role::y], false); }

/// gradients of all slices (terms) -> dx
void run_join(Run& run, const Step& s) {
  for (const GradientTerm& slice : s.terms) copy(run, run.graph.nodes[slice.node], s[Role::dx], slice.dy, true);
}

constexpr StepKind kForward{"slice", roles<Role>, run_forward};
constexpr StepKind kJoin{"slice_backward", roles<Role>, run_join};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step[Role::x] = plan.value(node.inputs[0]);
  step[Role::y] = plan.make_value(node.out, node.path);
  keep_parts(plan, node, step[Role::x], step[Role::y]);
  step.writes = {step[Role::y]};
  plan.push(std::move(step));
}

/// The slices come from the last one on.
void emit_join(Planner& plan, int value, std::vector<GradientTerm> slices) {
  const std::string& path = plan.node(slices.front().node).path;
  const int64_t heads = parts(plan.node(slices.front().node));
  int64_t end = plan.cols(value) / heads;
  for (const GradientTerm& slice : slices) {
    const Node& node = plan.node(slice.node);
    if (parts(node) != heads || node.first + plan.cols(node.out) / heads != end) end = -1;
    if (end >= 0) end = node.first;
  }
  if (end != 0) fail("UNSUPPORTED", path, ": the slices of its input do not make up the whole of it, in order");
  Step step = plan.step(kJoin, Phase::backward, slices.front().node);
  step[Role::dx] = plan.make_gradient(value, "gradient of the input of " + path);
  for (const GradientTerm& slice : slices) keep_parts(plan, plan.node(slice.node), step[Role::dx], slice.dy);
  step.terms = std::move(slices);
  step.writes = {step[Role::dx]};
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  for (const int reader : plan.graph().consumers[node.inputs[0]])
    if (plan.node(reader).op != Op::slice) fail("UNSUPPORTED", "slice at ", node.path, ": its input has other readers");
  plan.defer(node.inputs[0], {index, dy, -1}, emit_join);
}

}  // namespace slice_op

/// out = columns of x from `first` on, or those columns of each of `heads` equal parts of x; the slices of a value must
/// cover each column exactly once.
LOWRANK_NODE(slice, inputs(x), integer(first), optional(integer(heads)));
const OpRules slice{.cheap = true,
                    .shape = slice_op::shape,
                    .reads_dense = slice_op::reads_dense,
                    .forward = slice_op::forward,
                    .backward = slice_op::backward};

}  // namespace lowrank
