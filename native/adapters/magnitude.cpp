#include "adapters/magnitude.h"

#include <algorithm>
#include <cmath>

#include "adapters/low_rank_term.h"
#include "quant/row_norm.h"

namespace lowrank {
namespace {

/// Buffers of its steps.
enum class MagnitudeRole : uint8_t {
  unscaled = slot::x,  // the layer's output before its rows are scaled
  scaled = slot::y,    // and behind
  dy = slot::dy,       // the gradient at the scaled output
  dx = slot::dx,       // and at the unscaled one
};

const AdapterSite* site_of(const Run& run, int node, size_t adapter) {
  const std::vector<AdapterSite>& sites = run.plan.sites[node];
  return adapter < sites.size() && sites[adapter].spec != nullptr ? &sites[adapter] : nullptr;
}

/// Only a low-rank term has a magnitude.
const LowRank& scaled_of(const AdapterSite& site) { return static_cast<const LowRank&>(*site.scaled); }

/// A copy of the base that another adapter trained may change behind this adapter's back.
bool base_replaced(const Run& run, int node) { return run.plan.copies[run.graph.nodes[node].weight].adapter >= 0; }

Ptr<float> norms_of(const Run& run, const AdapterRun& adapter, int node, const AdapterSite& site) {
  return adapter.norms(site.scaled->index(), base_replaced(run, node)).norms;
}

/// gain_i = sum over adapters of weight * m_i / c_i, plus 1 minus the sum of weights.
void add_gains(Run& run, int node, int64_t out, Ptr<float> gain) {
  float rest = 1;
  run.launch(Zero{gain.as<std::byte>(), out * 4});
  for (size_t i = 0; i < run.adapters.size(); ++i) {
    const AdapterSite* site = site_of(run, node, i);
    if (site == nullptr || site->scaled == nullptr) continue;
    const AdapterRun& adapter = *run.adapters[i];
    run.launch(AddRatios{out, adapter.weight, adapter.value(scaled_of(*site).magnitude()),
                         norms_of(run, adapter, node, *site), gain});
    rest -= adapter.weight;
  }
  if (rest != 0) run.launch(AddConstant{out, rest, gain});
}

void run_norms(Run& run, const Step& s) {
  const Node& node = run.node(s);
  const Factor w = run.weight(node.weight);
  const bool replaced = base_replaced(run, s.node);
  for (size_t i = 0; i < run.adapters.size(); ++i) {
    const AdapterSite* site = site_of(run, s.node, i);
    if (site == nullptr || site->scaled == nullptr) continue;
    AdapterRun& adapter = *run.adapters[i];
    const LowRank& term = scaled_of(*site);
    const AdapterRun::Norms kept = adapter.norms(term.index(), replaced);
    if (!run.may(!kept.norms_hold)) continue;
    if (run.may(!kept.squares_hold)) run.launch(RowSquares{w, kept.squares});
    const Layout::Scope scope(*run.room);
    const Ptr<float> folded = run.room->take<float>(w.rows * term.rank());
    const Ptr<float> products = run.room->take<float>(term.rank() * w.rows);
    const Ptr<double> gram = run.room->take<double>(term.rank() * term.rank());
    const Ptr<float> a = adapter.value(term.a());
    const int64_t a_ld = term.a_ld();
    term.fold(run, adapter, 1, {}, folded);
    run.launch(Gram{term.rank(), w.cols, a, a_ld, gram});
    const Segment segment{{a.as<std::byte>(), DType::f32, a_ld}, w};
    run.launch(
        GemmNt{Precision::f32, term.rank(), w.rows, {&segment, 1}, {{products.as<std::byte>(), DType::f32, w.rows}}});
    run.launch(AdaptedRowNorms{w, a, a_ld, folded, term.rank(), kept.squares, products, gram, kept.norms});
    adapter.norms_made(term.index(), replaced);
  }
}

/// unscaled or scaled, dy -> dx; adds to the gradient of the magnitude
void run_gradient(Run& run, const Step& s) {
  const Node& node = run.node(s);
  const AdapterRun& adapter = *run.adapters[0];
  const AdapterSite& site = *site_of(run, s.node, 0);
  const int64_t out = run.cols(node.out);
  const int m = scaled_of(site).magnitude(),
            product = s[MagnitudeRole::scaled] < 0 ? s[MagnitudeRole::unscaled] : s[MagnitudeRole::scaled];
  const Ptr<float> gain = run.room->take<float>(out), share = run.room->take<float>(out);
  // y is m / c times the sum; a row that is scaled to zero says nothing and stays.
  run.launch(MagnitudeGains{out, adapter.value(m), norms_of(run, adapter, s.node, site), s[MagnitudeRole::scaled] >= 0,
                            gain, share});
  if (product < 0)
    run.launch(ScaleColumns{
        run.tokens, out, run.matrix(s[MagnitudeRole::dy]), gain, {}, {}, run.matrix(s[MagnitudeRole::dx])});
  else
    run.launch(ScaleColumnsBackward{run.tokens, out, run.matrix(s[MagnitudeRole::dy]), run.matrix(product), gain, share,
                                    run.matrix(s[MagnitudeRole::dx]), adapter.gradient(m)});
}

constexpr StepKind kNorms{"adapter_norm", roles<MagnitudeRole>, run_norms};
constexpr StepKind kGradient{"magnitude_gradient", roles<MagnitudeRole>, run_gradient};

/// Site of the adapter that trains, or null.
const AdapterSite* trained_site(const Planner& plan, int node) {
  const std::vector<AdapterSite>& sites = plan.sites(node);
  return plan.training() && !sites.empty() && sites[0].spec != nullptr ? &sites[0] : nullptr;
}

bool trains_magnitude(const AdapterSite* site) {
  return site != nullptr && site->scaled != nullptr && site->spec->trains(scaled_of(*site).magnitude());
}

}  // namespace

bool has_magnitude(const std::vector<AdapterSite>& sites) {
  return std::any_of(sites.begin(), sites.end(), [](const AdapterSite& site) { return site.scaled != nullptr; });
}

bool drops_base(const AdapterSite& site) { return site.scaled != nullptr && scaled_of(site).drops(); }

void plan_norms(Planner& plan, int node) {
  Step step = plan.step(kNorms, Phase::forward, node);
  if (plan.plan().copies[plan.node(node).weight].adapter < 0) step.weights = {plan.node(node).weight};
  plan.touch(step, node);
  plan.push(std::move(step));
}

bool keeps_scaled_output(const Planner& plan, int index) {
  const Node& node = plan.node(index);
  const AdapterSite* site = trained_site(plan, index);
  return trains_magnitude(site) && !drops_base(*site) && node.bias < 0 && node.residual < 0 &&
         !plan.overwritten(node.out);
}

/// The gradient of the magnitude needs it, so it is kept where a linear is not run again in the backward pass: to do so
/// for it alone is one more product of the base.
int unscaled_output(Planner& plan, int index, Phase phase, int y) {
  const Node& node = plan.node(index);
  const AdapterSite* site = trained_site(plan, index);
  const bool drops = site != nullptr && drops_base(*site);
  const auto fresh = [&] {
    return plan.add_buffer(node.path + " unscaled", Category::activations, plan.operand(), RowKind::tokens,
                           plan.cols(node.out));
  };
  if (keeps_scaled_output(plan, index)) return y;
  if (trains_magnitude(site) && !(phase == Phase::forward && plan.runs_again(index)))
    return plan.kept_part(index) = fresh();
  return plan.graph().values[node.out].type == ValueType::operand && !drops ? y : fresh();
}

/// It takes the place of dy unless that has other readers: a residual's gradient, or the base's product where the input
/// is dropped.
int magnitude_backward(Planner& plan, int index, int dy) {
  const Node& node = plan.node(index);
  const AdapterSite* site = trained_site(plan, index);
  Step step = plan.step(kGradient, Phase::backward, index);
  step[MagnitudeRole::dy] = dy;
  if (keeps_scaled_output(plan, index)) {
    step[MagnitudeRole::scaled] = plan.materialize(node.out);
  } else if (trains_magnitude(site)) {
    if (plan.kept_part(index) < 0) {
      plan.forget(node.out);
      plan.materialize(node.out);
    }
    step[MagnitudeRole::unscaled] = plan.kept_part(index);
  }
  const bool in_place = plan.graph().values[node.out].type == ValueType::operand && !drops_base(*site);
  step[MagnitudeRole::dx] = in_place ? dy
                                     : plan.add_buffer(node.path + " scaled gradient", Category::activations,
                                                       plan.operand(), RowKind::tokens, plan.cols(node.out));
  const int scaled = step[MagnitudeRole::dx];
  step.writes = {scaled};
  if (trains_magnitude(site)) step.adds = {scaled_of(*site).magnitude()};
  plan.touch(step, index);
  plan.push(std::move(step));
  return scaled;
}

RowScale::RowScale(Run& run, int node) : gain_(run.room->take<float>(run.cols(run.graph.nodes[node].out))) {
  add_gains(run, node, run.cols(run.graph.nodes[node].out), gain_);
  for (const AdapterSite& site : run.plan.sites[node])
    for (const Term* term : site.terms) changes_ += term->facts().rank > 0;
}

Ptr<float> RowScale::over(Run& run, const AdapterRun& adapter, int node) const {
  if (!run.may(changes_ > 1 || adapter.weight != 1)) return {};
  const int64_t out = run.cols(run.graph.nodes[node].out);
  const auto at = std::find(run.adapters.begin(), run.adapters.end(), &adapter);
  const AdapterSite* site = site_of(run, node, static_cast<size_t>(at - run.adapters.begin()));
  const bool own = site != nullptr && site->scaled != nullptr;
  const Ptr<float> over = run.room->take<float>(out);
  run.launch(RatiosOver{out, own ? adapter.value(scaled_of(*site).magnitude()) : Ptr<float>(),
                        own ? norms_of(run, adapter, node, *site) : Ptr<float>(), gain_, over});
  return over;
}

void RowScale::begin(Run& run, Product& product) {
  const auto [node, out, in] = product.site;
  bias_ = product.to.bias;
  rest_ = {product.to.residual.as<std::byte>(), DType::f32, out};
  if (product.dropped.data) {
    const Layout::Scope scope(*run.room);
    const Ptr<float> minus = run.room->take<float>(in);
    const Matrix left = run.take_operand(in);
    run.launch(Zero{minus.as<std::byte>(), in * 4});
    run.launch(AddConstant{in, -1, minus});
    run.launch(
        ScaleColumns{run.tokens, in, product.dropped, minus, {}, run.matrix(product.step[ProductRole::x]), left});
    const Segment base{left, product.segments[0].w};
    run.launch(GemmNt{run.precision(), run.tokens, out, {&base, 1}, product.to});
    product.segments[0].x = product.dropped;
    bias_ = {};
    rest_ = product.to.y;
  }
  product.to = {run.matrix(product.step[ProductRole::unscaled])};
}

void RowScale::finish(Run& run, const Product& product) const {
  run.launch(ScaleColumns{run.tokens, product.site.out, product.to.y, gain_, bias_, rest_,
                          run.matrix(product.step[ProductRole::y])});
}

void fill_magnitude(Pool& pool, const Adapter& adapter, const Term& scaled, const WeightView& w, float* out) {
  const auto& term = static_cast<const LowRank&>(scaled);
  const std::vector<float> folded = term.folded(adapter);
  const HostView<const float> a = adapter.view(term.a());
  pool.for_range(w.rows, std::max<int64_t>(1, 65536 / w.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const b = folded.data() + row * term.rank();
      const bool starts_at_zero = std::all_of(b, b + term.rank(), [](float value) { return value == 0; });
      out[row] = static_cast<float>(
          std::sqrt(adapted_row_square(w, row, a.data(), term.a_ld(), b, starts_at_zero ? 0 : term.rank())));
    }
  });
}

Segment masked_base(Run& run, const GradientTerm& share) {
  const Node& node = run.graph.nodes[share.node];
  const int64_t out = run.cols(node.out);
  const Ptr<float> gain = run.room->take<float>(out);
  add_gains(run, share.node, out, gain);
  run.launch(AddConstant{out, -1, gain});
  const Matrix scaled = run.take_operand(out);
  run.launch(ScaleColumns{run.tokens, out, run.matrix(share.dy), gain, {}, {}, scaled});
  return {scaled, run.weight(node.weight)};
}

}  // namespace lowrank
