// Looks up table rows by token.
#include "adapters/term.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace embedding_op {

/// Buffers of its backward steps.
enum class Role : uint8_t {
  ids = slot::x,
  dy = slot::dy,
};

void shape(const NodeCheck& check) {
  check.expect(check.weight(check.node.weight, check.graph.vocab_size, check.out().cols).kind == WeightKind::table,
               "its weight must be declared as a table");
  check.expect(check.out().type == ValueType::residual, "its output must be residual");
}

/// Adds the noise of NEFTune (arXiv 2310.05914) to the rows of all tokens, in training.
void add_noise(Run& run, const Step& s, const Matrix& rows) {
  if (run.noise > 0)
    run.launch(AddNoise{run.tokens, rows.ld, run.host_seqlens, run.noise, run.dropout_key(s.node), rows});
}

/// Multiplies the rows of all tokens by the node's constant.
void scale_rows(Run& run, const Step& s, const Matrix& rows) {
  const float scale = run.node(s).scale;
  const Ptr<float> numbers = rows.data.as<float>();
  if (scale != 0) run.launch(Fold{run.tokens, rows.ld, rows.ld, scale, 1, numbers, {}, {}, {}, {}, numbers});
}

/// x = ids -> y
void run_forward(Run& run, const Step& s) {
  const Node& node = run.node(s);
  const Matrix y = run.matrix(s[ProductRole::y]);
  run.launch(DecodeRows{run.tokens, run.at<int32_t>(s[ProductRole::x]), run.weight(node.weight), y});
  const std::vector<AdapterSite>& sites = run.plan.sites[s.node];
  Product product{s, {s.node, y.ld, run.graph.vocab_size}, {}, {y}};
  for (size_t i = 0; i < sites.size(); ++i)
    if (run.uses(i))
      for (const Term* term : sites[i].terms) term->forward(run, *run.adapters[i], product);
  // In Gemma the constant is the embedding module's own, whose output the noise is added to.
  const bool scaled_within = run.graph.family.rfind("gemma", 0) == 0;
  if (!scaled_within) add_noise(run, s, y);
  scale_rows(run, s, y);
  if (scaled_within) add_noise(run, s, y);
}

/// dy in place
void run_scale(Run& run, const Step& s) { scale_rows(run, s, run.matrix(s[Role::dy])); }

/// ids, dy -> adds to the gradient of the table
void run_gradient(Run& run, const Step& s) {
  const Node& node = run.node(s);
  run.launch(EmbeddingGradient{run.tokens, run.cols(node.out), run.at<int32_t>(s[Role::ids]), run.matrix(s[Role::dy]),
                               run.weight_gradient(node.weight)});
}

constexpr StepKind kForward{"embedding", roles<ProductRole>, run_forward, false, RowsOf::text};
constexpr StepKind kScale{"embedding_scale", roles<Role>, run_scale};
constexpr StepKind kGradient{"embedding_gradient", roles<Role>, run_gradient};

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  Step step = plan.step(kForward, phase, index);
  step[ProductRole::x] = plan.plan().tokens;
  step[ProductRole::y] = plan.make_value(node.out, node.path);
  step.writes = {step[ProductRole::y]};
  plan.touch(step, index);
  plan.push(std::move(step));
}

void backward(Planner& plan, int index, int dy) {
  const int trained = plan.trained_weight(plan.node(index).weight);
  if (plan.node(index).scale != 0 && (trained >= 0 || !plan.sites(index).empty())) {
    plan.expect_unread(dy, plan.node(index).path);
    Step step = plan.step(kScale, Phase::backward, index);
    step[Role::dy] = dy;
    step.writes = {dy};
    plan.push(std::move(step));
  }
  GradientTerm none;
  for (const AdapterSite& site : plan.sites(index))
    for (const Term* term : site.terms) term->backward(plan, dy, none);
  if (trained < 0) return;
  Step step = plan.step(kGradient, Phase::backward, index);
  step[Role::ids] = plan.plan().tokens;
  step[Role::dy] = dy;
  step.adds = {trained};
  plan.touch(step, index);
  plan.push(std::move(step));
}

}  // namespace embedding_op

/// out = scale row; default scale 1.
LOWRANK_NODE(embedding, weight(weight), optional(number(scale)));
const OpRules embedding{
    .shape = embedding_op::shape, .forward = embedding_op::forward, .backward = embedding_op::backward};

}  // namespace lowrank
