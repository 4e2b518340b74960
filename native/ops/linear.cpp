// y = x W^T (+ bias) (+ residual) with the terms of adapters, and its three gradients.
#include <algorithm>
#include <deque>
#include <span>

#include "adapters/magnitude.h"
#include "adapters/term.h"
#include "core/error.h"
#include "ops/check.h"
#include "ops/list.h"
#include "plan/planner.h"
#include "plan/run.h"

namespace lowrank {
namespace linear_op {

/// Buffers of its backward steps.
enum class Role : uint8_t {
  x = slot::x,
  part = slot::residual,  // f32: what terms made of the gradient of x
  dy = slot::dy,
  dx = slot::dx,
  dy_cast = slot::dx,  // dy as an operand
};

void shape(const NodeCheck& check) {
  const Node& node = check.node;
  const GraphValue& out = check.out();
  check.weight(node.weight, out.cols, check.input().cols);
  if (node.bias >= 0) check.vector(node.bias, out.cols);
  check.expect((node.residual >= 0) == (out.type == ValueType::residual),
               "an output is residual exactly when a residual is added");
  if (node.residual >= 0) {
    const GraphValue& residual = check.value(node.residual);
    check.expect(residual.cols == out.cols && residual.type == ValueType::residual,
                 "the residual differs from the output");
  }
  check.expect(check.input().type == ValueType::operand, "its input must be an operand");
}

/// Calls with every term at a node, and the adapter that it is of.
template <class Visit>
void each_term(Run& run, int node, Visit&& visit) {
  const std::vector<AdapterSite>& sites = run.plan.sites[node];
  for (size_t i = 0; i < sites.size(); ++i)
    if (run.uses(i))
      for (const Term* term : sites[i].terms) visit(*term, *run.adapters[i]);
}

Site site_of(const Run& run, int node) {
  const Node& n = run.graph.nodes[node];
  return {node, run.cols(n.out), run.cols(n.inputs[0])};
}

/// The product of one linear, to which its terms have yet to add.
Product product_of(const Run& run, const Step& s) {
  const Node& node = run.node(s);
  Output to{run.matrix(s[ProductRole::y])};
  if (node.bias >= 0) to.bias = run.vector(node.bias);
  if (const int residual = s[ProductRole::residual]; residual >= 0) {
    to.residual = run.at<float>(residual);
    to.residual_ld = run.cols(node.out);
  }
  return {s, site_of(run, s.node), {{run.matrix(s[ProductRole::x]), run.weight(node.weight)}}, to};
}
GemmNt gemm_of(const Run& run, const Product& product) {
  return {run.precision(), run.tokens, product.site.out, product.segments, product.to};
}
void add_terms(Run& run, Product& product) {
  each_term(run, product.site.node,
            [&](const Term& term, AdapterRun& adapter) { term.forward(run, adapter, product); });
}

/// Calls with each range of rows that an adapter acts on: all of them while planning.
template <class Visit>
void each_range(const Run& run, int32_t adapter, Visit&& visit) {
  if (run.counting) return visit(0, run.plan.options.head_rows);
  const auto& rows = run.window.of_rows;
  const auto uses = [&](const std::vector<int32_t>* own) {
    return std::binary_search(own->begin(), own->end(), adapter);
  };
  for (auto begin = rows.begin(); begin != rows.end();) {
    begin = std::find_if(begin, rows.end(), uses);
    const auto end = std::find_if_not(begin, rows.end(), uses);
    if (begin != end) visit(begin - rows.begin(), end - begin);
    begin = end;
  }
}

/// The same for rows of several texts, of which each has adapters of its own.
void run_by_row(Run& run, const Step& s) {
  for (const Step& each : members_of(s)) {
    const std::vector<AdapterSite>& sites = run.plan.sites[each.node];
    std::vector<LowRankPart> parts;
    for (size_t i = 0; i < sites.size(); ++i)
      each_range(run, static_cast<int32_t>(i), [&](int64_t row, int64_t rows) {
        for (const Term* term : sites[i].terms) {
          LowRankPart& part = parts.emplace_back(term->part(*run.adapters[i]));
          part.row = row;
          part.rows = rows;
        }
      });
    const Product product = product_of(run, each);
    const int64_t rows = run.counting ? run.plan.options.head_rows : run.tokens;
    run.launch(GemmNtByRow{run.precision(), rows, product.site.out, product.segments.front(), parts, product.to});
  }
}

/// x, residual -> y. Members of a group share x's tail and workspace for its dropout.
void run_forward(Run& run, const Step& s) {
  if (!run.window.of_rows.empty()) return run_by_row(run, s);
  if (run.counting && s.by_row) {
    const Layout::Scope scope(*run.room);
    run_by_row(run, s);
  }
  std::deque<RowScale> scales;
  std::vector<Product> products;
  for (const Step& each : members_of(s)) {
    Product product = product_of(run, each);
    if (!products.empty()) product.hidden = products.back().hidden;
    if (each[ProductRole::unscaled] >= 0)
      product.scale = &scales.emplace_back(run, each.node);
    else if (!products.empty())
      product.dropped = products.back().dropped;
    add_terms(run, product);
    if (product.scale != nullptr) scales.back().begin(run, product);
    products.push_back(std::move(product));
  }
  std::vector<GemmNt> gemms;
  for (const Product& product : products) gemms.push_back(gemm_of(run, product));
  if (gemms.size() == 1)
    run.launch(gemms.front());
  else
    run.launch(GroupedGemmNt{gemms});
  for (const Product& product : products)
    if (product.scale != nullptr) product.scale->finish(run, product);
}

/// terms (dy, gradient at h) -> dx, added when `accumulate`, plus the part
void run_input_gradient(Run& run, const Step& s) {
  const Matrix dx = run.matrix(s[Role::dx]);
  const int64_t in = run.cols(run.node(s).inputs[0]);
  std::vector<Segment> segments;
  std::vector<InputGradient> shares;
  {
    const Layout::Scope scope(*run.room);
    for (const GradientTerm& share : s.terms) {
      const Segment base{run.matrix(share.dy), run.weight(run.graph.nodes[share.node].weight)};
      InputGradient& gradient = shares.emplace_back(InputGradient{site_of(run, share.node), share, {base}});
      each_term(run, share.node,
                [&](const Term& term, AdapterRun& adapter) { term.input_gradient(run, adapter, gradient); });
      segments.insert(segments.end(), gradient.segments.begin(), gradient.segments.end());
    }
    if (segments.empty())
      return run.launch(Cast{run.tokens * in, run.at<float>(s[Role::part]), dx.data.as<uint16_t>()});
    Output to{dx};
    if (const int from = s.accumulate ? s[Role::dx] : s[Role::part]; from >= 0) {
      const Matrix residual = run.matrix(from);
      to.residual = residual.data.as<float>();
      to.residual_ld = residual.ld;
    }
    run.launch(GemmNn{run.precision(), run.tokens, in, segments, to});
  }
  for (InputGradient& gradient : shares) {
    const Layout::Scope scope(*run.room);
    each_term(run, gradient.site.node,
              [&](const Term& term, AdapterRun& adapter) { term.finish_input_gradient(run, adapter, gradient, dx); });
  }
}

/// dy -> dy_cast
void run_gradient_cast(Run& run, const Step& s) {
  run.launch(
      GatherRows{run.tokens, run.cols(run.node(s).out), run.matrix(s[Role::dy]), {}, run.matrix(s[Role::dy_cast])});
}

/// x, dy -> adds to the gradients of its weight and bias
void run_weight_gradient(Run& run, const Step& s) {
  const Node& node = run.node(s);
  const int64_t out = run.cols(node.out);
  const Matrix dy = run.matrix(s[Role::dy]);
  if (s[Role::x] >= 0)
    run.add_weight_gradient(dy, run.tokens, out, run.matrix(s[Role::x]), run.cols(node.inputs[0]),
                            run.weight_gradient(node.weight));
  if (const Ptr<float> bias = run.weight_gradient(node.bias)) run.launch(BiasGradient{run.tokens, out, dy, bias});
}

constexpr StepKind kForward{"linear", roles<ProductRole>, run_forward, false, RowsOf::text};
constexpr StepKind kInputGradient{"linear_input_gradient", roles<Role>, run_input_gradient};
constexpr StepKind kGradientCast{"gradient_cast", roles<Role>, run_gradient_cast};
constexpr StepKind kWeightGradient{"weight_gradient", roles<Role>, run_weight_gradient};

/// Width of the operands that the terms of a linear make of x; 0 for none.
int64_t hidden_cols(const Planner& plan, int index) {
  int64_t width = 0;
  for (const AdapterSite& site : plan.sites(index))
    for (const Term* term : site.terms) width += term->hidden_cols(plan.options());
  return width;
}

/// True for a linear that may be computed as one with other readers of its input: its weight multiplies x itself, and
/// its terms add only operands.
bool may_join(const Planner& plan, int index) {
  const Node& node = plan.node(index);
  if (node.op != Op::linear || node.residual >= 0 || plan.read_dense(node.out)) return false;
  const std::vector<AdapterSite>& sites = plan.sites(index);
  return std::all_of(sites.begin(), sites.end(), [&](const AdapterSite& site) {
    return !drops_base(site) && std::all_of(site.terms.begin(), site.terms.end(),
                                            [&](const Term* term) { return term->joins(plan.options()); });
  });
}

/// All linears that are computed as one with this one, the last reader first: the order of their gradients.
std::vector<int> group_of(const Planner& plan, int index) {
  if (!plan.joins_operands() || !may_join(plan, index)) return {index};
  std::vector<int> group;
  for (const int reader : plan.graph().consumers[plan.node(index).inputs[0]])
    if (may_join(plan, reader) && plan.value(plan.node(reader).out) < 0) group.push_back(reader);
  std::reverse(group.begin(), group.end());
  return group;
}

/// True for a linear whose rows may each have adapters of their own.
bool multiplies_by_row(const Planner& plan, int index) {
  int64_t most = 0;
  for (const AdapterSite& site : plan.sites(index)) {
    int64_t ranks = 0;
    for (const Term* term : site.terms) {
      if (term->ranks_by_row() == 0) return false;
      ranks += term->ranks_by_row();
    }
    most = std::max(most, ranks);
  }
  return plan.multiplies_by_row(plan.cols(plan.node(index).inputs[0]), most);
}

/// @param tail of its input, or -1
Step forward_step(Planner& plan, int index, Phase phase, int tail) {
  const Node& node = plan.node(index);
  const bool scaled = has_magnitude(plan.sites(index));
  Step step = plan.step(kForward, phase, index);
  step[ProductRole::x] = plan.value(node.inputs[0]);
  int& y = step[ProductRole::y];
  if (scaled && phase == Phase::forward) plan_norms(plan, index);
  if (node.residual >= 0) {
    const int residual = step[ProductRole::residual] = plan.value(node.residual);
    if (plan.may_overwrite(node.residual, index, phase)) plan.place_value(node.out, y = residual);
  }
  if (y < 0) y = plan.make_value(node.out, node.path);
  step.writes = {y};
  if (const int64_t width = hidden_cols(plan, index); width > 0) {
    step[ProductRole::tail] = tail;
    if (tail >= 0) step.by_rank.push_back(tail);
    // The tail is shared, so its content is copied for the backward pass unless this linear runs again there.
    const bool keeps = plan.training() && (tail < 0 || phase != Phase::forward || !plan.runs_again(index));
    if (keeps) step.by_rank.push_back(step[ProductRole::hidden] = plan.hidden(index, width));
    step.writes.insert(step.writes.end(), step.by_rank.begin(), step.by_rank.end());
  }
  if (scaled) step.writes.push_back(step[ProductRole::unscaled] = unscaled_output(plan, index, phase, y));
  step.by_row = multiplies_by_row(plan, index);
  plan.read_weight(step, index);
  return step;
}

/// Room behind x for the operands of all its readers, or -1.
int tail_of(Planner& plan, int x) {
  int64_t width = 0;
  for (const int reader : plan.graph().consumers[x])
    if (plan.node(reader).op == Op::linear) width += hidden_cols(plan, reader);
  return width > 0 ? plan.tail(plan.value(x), width) : -1;
}

void forward(Planner& plan, int index, Phase phase) {
  const Node& node = plan.node(index);
  if (plan.value(node.out) >= 0) return;  // computed along with an earlier reader of its input
  const int tail = tail_of(plan, node.inputs[0]);
  std::vector<Step> group;
  for (const int member : group_of(plan, index)) group.push_back(forward_step(plan, member, phase, tail));
  if (group.size() == 1) return plan.push(std::move(group.front()));
  Step step = plan.step(kForward, phase, index);
  step[ProductRole::x] = group.front()[ProductRole::x];
  std::vector<int> outputs;
  for (const Step& each : group) {
    outputs.push_back(each[each[ProductRole::unscaled] >= 0 ? ProductRole::unscaled : ProductRole::y]);
    step.multiply_adds += each.multiply_adds;
    step.writes.insert(step.writes.end(), each.writes.begin(), each.writes.end());
    step.weights.insert(step.weights.end(), each.weights.begin(), each.weights.end());
    step.touches.insert(step.touches.end(), each.touches.begin(), each.touches.end());
  }
  plan.lay_beside("outputs of all readers of " + node.path + " input", outputs);
  step.by_row = std::all_of(group.begin(), group.end(), [](const Step& each) { return each.by_row; });
  step.group = std::move(group);
  plan.push(std::move(step));
}

/// Gradients of all readers of a value, and behind them those at the operands of their terms.
void lay_beside(Planner& plan, const std::string& path, const std::vector<GradientTerm>& shares) {
  std::vector<int> operands;
  for (const GradientTerm& share : shares) operands.push_back(share.dy);
  for (const GradientTerm& share : shares)
    if (share.dh >= 0) operands.push_back(share.dh);
  plan.lay_beside("gradients of all readers of " + path + " input", operands);
}

/// The input gradient of all linears that read `value`: one product over all their columns.
void emit_input_gradient(Planner& plan, int value, std::vector<GradientTerm> shares) {
  const std::string path = plan.node(shares.front().node).path;
  const bool residual = plan.dtype(value) == DType::f32;
  Step step = plan.step(kInputGradient, Phase::backward, shares.front().node);
  step.accumulate = plan.gradient(value) >= 0;
  step[Role::part] = plan.gradient_part(value);
  if (step.accumulate && (!residual || step[Role::part] >= 0))
    fail("UNSUPPORTED", path, ": its input is also read by nodes that are not linear");
  // In fp32 the products of the base are added in place.
  if (step[Role::part] >= 0 && residual) plan.give_gradient(value, step[Role::part]);
  if (plan.gradient(value) < 0) plan.make_gradient(value, "gradient of " + path + " input");
  step[Role::dx] = plan.gradient(value);
  // A linear whose share was made apart, as a part, has none left.
  std::erase_if(shares, [](const GradientTerm& share) { return share.dy < 0; });
  if (shares.empty() && step[Role::dx] == step[Role::part]) return;
  if (shares.empty()) plan.keep_dense(step[Role::dx]);
  step.terms = std::move(shares);
  lay_beside(plan, path, step.terms);
  plan.expect_unread(step[Role::dx], path);
  for (const GradientTerm& share : step.terms) plan.read_weight(step, share.node);
  step.writes = {step[Role::dx]};
  plan.push(std::move(step));
}

void weight_backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  Step step = plan.step(kWeightGradient, Phase::backward, index);
  for (const int weight : {node.weight, node.bias})
    if (weight >= 0 && plan.trained_weight(weight) >= 0) step.adds.push_back(plan.trained_weight(weight));
  if (step.adds.empty()) return;
  if (has_magnitude(plan.sites(index)))
    fail("UNSUPPORTED", "adapter at ", node.path, ": a magnitude cannot be combined with a trained weight or bias");
  step[Role::dy] = dy;
  step.multiply_adds = plan.products(index);
  if (plan.trained_weight(node.weight) >= 0) step[Role::x] = plan.materialize(node.inputs[0]);
  plan.touch(step, index);
  plan.push(std::move(step));
}

/// A residual's gradient as an operand, if the device joins operands. Products round it so anyway; a trained bias then
/// also sums rounded gradients.
int gradient_operand(Planner& plan, int index, int dy) {
  const int out = plan.node(index).out;
  if (!plan.joins_operands() || plan.dtype(out) == plan.operand()) return dy;
  Step step = plan.step(kGradientCast, Phase::backward, index);
  step[Role::dy] = dy;
  const int made = step[Role::dy_cast] =
      plan.add_buffer(plan.node(index).path + " gradient as an operand", Category::activations, plan.operand(),
                      RowKind::tokens, plan.cols(out));
  step.writes = {made};
  plan.push(std::move(step));
  return made;
}

void backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const int x = node.inputs[0];
  const std::vector<AdapterSite>& sites = plan.sites(index);
  const bool acts = !sites.empty() && sites[0].spec != nullptr;
  const bool multiplies = acts || plan.needs_gradient(x) || plan.trained_weight(node.weight) >= 0;
  // The gradient that a magnitude scales is an operand.
  const bool scales = acts && sites[0].scaled != nullptr;
  const int operand = multiplies && !scales ? gradient_operand(plan, index, dy) : dy;
  const int scaled = scales ? magnitude_backward(plan, index, dy) : operand;
  GradientTerm share{index, acts && drops_base(sites[0]) ? dy : scaled, -1};
  if (acts)
    for (const Term* term : sites[0].terms) term->backward(plan, scaled, share);
  weight_backward(plan, index, operand);
  if (plan.needs_gradient(x)) plan.defer(x, share, emit_input_gradient);
  if (node.residual >= 0 && plan.needs_gradient(node.residual)) {
    // The residual's gradient is dy itself. Later steps add to it in place, so this linear's own reading of dy must
    // come first; it does, because the path through x is longer than the residual's.
    if (plan.gradient(node.residual) >= 0) fail("UNSUPPORTED", node.path, ": the residual already has a gradient");
    plan.give_gradient(node.residual, dy);
  }
}

}  // namespace linear_op

/// out = x W^T (+ bias) (+ residual)
LOWRANK_NODE(linear, inputs(x), weight(weight), optional(weight(bias)), optional(value(residual)));
const OpRules linear{.shape = linear_op::shape,
                     .keeps_output = keeps_scaled_output,
                     .forward = linear_op::forward,
                     .backward = linear_op::backward};

}  // namespace lowrank
