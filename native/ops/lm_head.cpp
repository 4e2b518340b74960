// The head: logits of selected rows, or their loss and, in training, its gradient at the head's input, computed in the
// forward pass while the logits exist. Logits are computed for a few rows at a time, never all at once.
#include <algorithm>

#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace lm_head_op {

/// Buffers of its steps.
enum class Role : uint8_t {
  x = slot::x,
  rows = slot::x2,  // gathered from x, and then gradients at them
  logits = slot::y,
  dx = slot::dx,
};

void shape(const NodeCheck& check) {
  check.weight(check.node.weight, check.graph.labels, check.input().cols);
  check.expect_operands();
  check.expect(check.is_last(), "must be the last node");
}

/// Head rows whose logits are formed at a time: as many as fit, in tiles of the matrix kernels, and one tile at least.
int64_t chunk_rows(int64_t vocab, int64_t head_rows, int64_t bytes) {
  constexpr int64_t kTile = 16;
  const int64_t fitting = bytes / (vocab * static_cast<int64_t>(sizeof(float)));
  const int64_t unit = fitting < 2 * kTile ? kTile : 2 * kTile;
  return std::min(std::max(fitting / unit * unit, kTile), head_rows);
}

void gather(Run& run, const Step& s) {
  run.launch(GatherRows{run.head_rows, run.cols(run.node(s).inputs[0]), run.matrix(s[Role::x]),
                        run.at<int32_t>(run.plan.head_index), run.matrix(s[Role::rows])});
}

/// out[rows, vocab] = x head^T, from the last slice of the vocabulary to the first, which the gradient begins with.
void logits(Run& run, const Matrix& x, int64_t rows, const Factor& head, Ptr<float> out) {
  const int64_t vocab = head.rows, slice = run.device->rows_at_once(head.weight, vocab);
  for (int64_t begin = (vocab - 1) / slice * slice; begin >= 0; begin -= slice) {
    const int64_t count = std::min(slice, vocab - begin);
    const auto held = run.device->hold({head.weight, begin, begin + count});
    const Segment segment{x, head.slice(begin, count)};
    const Output to{{(out + begin).as<std::byte>(), DType::f32, vocab}};
    if (run.side_by_side)
      run.launch(GemmNtByRow{run.precision(), rows, count, segment, {}, to});
    else
      run.launch(GemmNt{run.precision(), rows, count, {&segment, 1}, to});
  }
}

/// out[rows, width] = grad head, one slice of the vocabulary after the other. In bf16 their sums are kept apart in
/// fp32.
void input_gradient(Run& run, const Matrix& grad, int64_t rows, const Factor& head, const Matrix& out) {
  const int64_t width = head.cols, vocab = head.rows;
  const bool apart = vocab > kTableRows && run.operand() == DType::bf16;
  const Layout::Scope scope(*run.room);
  const Ptr<float> sums = apart ? run.room->take<float>(rows * width) : Ptr<float>();
  Output to{apart ? Matrix{sums.as<std::byte>(), DType::f32, width} : out};
  for (int64_t begin = 0; begin < vocab; begin += kTableRows) {
    const int64_t count = std::min(kTableRows, vocab - begin);
    const auto held = run.device->hold({head.weight, begin, begin + count});
    const Segment slice{grad.columns(begin), head.slice(begin, count)};
    run.launch(GemmNn{run.precision(), rows, width, {&slice, 1}, to});
    to.residual = to.y.data.as<float>();
    to.residual_ld = width;
  }
  if (apart) run.launch(Cast{rows * width, sums, out.data.as<uint16_t>()});
}

/// The parts of the loss that a step makes.
enum class Part : uint8_t { whole, losses, gradients };

/// Forms the logits of the gathered rows, a chunk at a time, for their losses and, in training, gradients: those take
/// the place of the rows and are then scattered to dx.
void run_part(Run& run, const Step& s, Part part) {
  const Node& n = run.node(s);
  const Plan& plan = run.plan;
  const Factor head = run.weight(n.weight);
  const int64_t width = head.cols, vocab = head.rows, element = size_of(run.operand());
  const bool back = s[Role::dx] >= 0;
  const Ptr<float> own = part == Part::losses ? Ptr<float>() : run.weight_gradient(n.weight);
  if (part != Part::gradients) gather(run, s);
  if (back) run.clear(s[Role::dx]);
  for (int64_t begin = 0; begin < run.head_rows; begin += plan.head_chunk) {
    const int64_t rows = std::min(plan.head_chunk, run.head_rows - begin);
    const auto of_rows = [&](int buffer) { return buffer < 0 ? Ptr<float>() : run.at<float>(buffer) + begin; };
    const Matrix chunk = run.matrix(s[Role::rows]).rows(begin);
    logits(run, chunk, rows, head, run.at<float>(s[Role::logits]));
    if (plan.head_hits >= 0 && part != Part::gradients)
      run.launch(LabelHits{rows,
                           vocab,
                           {run.at(s[Role::logits]), DType::f32, vocab},
                           run.at<int32_t>(plan.head_labels) + begin,
                           of_rows(plan.head_hits)});
    // The gradient takes the place of the logits, its rows starting where theirs do.
    const Matrix grad{back || own ? run.at(s[Role::logits]) : Ptr<std::byte>(), run.operand(), vocab * 4 / element};
    run.launch(CrossEntropy{rows,
                            vocab,
                            {run.at(s[Role::logits]), DType::f32, vocab},
                            run.at<int32_t>(plan.head_labels) + begin,
                            run.loss_scale,
                            of_rows(plan.head_losses),
                            grad,
                            of_rows(plan.head_weights),
                            of_rows(plan.head_lse),
                            part == Part::gradients,
                            1 / run.temperature,
                            run.smoothing});
    if (own) run.add_weight_gradient(grad, rows, vocab, chunk, width, own);
    if (back) input_gradient(run, grad, rows, head, chunk);
  }
  if (back)
    run.launch(ScatterAddRows{run.head_rows, width, run.matrix(s[Role::rows]), run.at<int32_t>(plan.head_index),
                              run.matrix(s[Role::dx])});
}

void run_loss(Run& run, const Step& s) { run_part(run, s, Part::whole); }
void run_losses(Run& run, const Step& s) { run_part(run, s, Part::losses); }
void run_gradients(Run& run, const Step& s) { run_part(run, s, Part::gradients); }

/// x -> logits of the gathered rows
void run_logits(Run& run, const Step& s) {
  if (run.head_rows == 0) return;  // a part of a prompt, which only fills the cache
  gather(run, s);
  logits(run, run.matrix(s[Role::rows]), run.head_rows, run.weight(run.node(s).weight), run.at<float>(s[Role::logits]));
}

constexpr StepKind kLoss{"head_loss", roles<Role>, run_loss};
constexpr StepKind kLosses{"head_losses", roles<Role>, run_losses};
constexpr StepKind kGradients{"head_gradients", roles<Role>, run_gradients};
constexpr StepKind kLogits{"head_logits", roles<Role>, run_logits};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  const PlanOptions& options = plan.options();
  const int x = node.inputs[0];
  const int64_t width = plan.cols(x), vocab = plan.graph().labels;
  const bool loss = options.mode != Mode::forward;
  const int trained = plan.trained_weight(node.weight);
  const int64_t chunk = chunk_rows(vocab, options.head_rows, options.logits_bytes);
  Step step = plan.step(!loss ? kLogits : options.two_passes ? kLosses : kLoss, phase, index);
  step[Role::x] = plan.value(x);
  // All wanted rows of a forward plan at once: they are few, and their logits are the result.
  step[Role::logits] = loss ? plan.add_buffer("logits", Category::loss, DType::f32, RowKind::fixed, chunk * vocab)
                            : plan.add_buffer("logits", Category::loss, DType::f32, RowKind::head, vocab);
  plan.set_logits(step[Role::logits], chunk);
  // The gathered rows; in training the gradient of each chunk then takes the place of its rows.
  step[Role::rows] = plan.add_buffer("gathered rows", Category::loss, plan.operand(), RowKind::head, width);
  step.losses = loss;
  if (!loss) step.writes = {step[Role::logits]};
  if (plan.plan().copies[node.weight].adapter < 0) step.sliced_weight = node.weight;
  const double product =
      static_cast<double>(options.head_rows) * static_cast<double>(width) * static_cast<double>(vocab);
  step.multiply_adds = product;
  if (options.two_passes) {
    plan.touch(step, index);
    Step losses = step;
    plan.push(std::move(losses));
    step.kind = &kGradients;
    step.losses = false;
    step.weighted = true;
    step.writes = {step[Role::rows]};
  }
  if (plan.training() && plan.needs_gradient(x))
    step.writes.push_back(step[Role::dx] = plan.make_gradient(x, "gradient of " + node.path + " input"));
  if (trained >= 0) step.adds = {trained};
  step.slices_again = step[Role::dx] >= 0;
  step.multiply_adds += ((step[Role::dx] >= 0) + (trained >= 0)) * product;
  plan.touch(step, index);
  plan.push(std::move(step));
}

}  // namespace lm_head_op

/// Selects the rows with a label (training, evaluation) or the requested rows (generation) and multiplies by the head.
LOWRANK_NODE(lm_head, inputs(x), weight(weight), ends);
const OpRules lm_head{.shape = lm_head_op::shape, .forward = lm_head_op::forward};

}  // namespace lowrank
