#include "adapters/pair.h"

#include <algorithm>
#include <tuple>

#include "adapters/hadamard.h"
#include "adapters/magnitude.h"
#include "core/factors.h"

namespace lowrank {
namespace {

/// Rows of the change whose gradient is formed at a time: bounds the workspace.
constexpr int64_t kDeltaRows = 256;

}  // namespace

/// Its steps find the term that they are of.
struct PairSteps {
  static const PairTerm& of(const Step& s) { return static_cast<const PairTerm&>(*s.term); }
  static void hidden(Run& run, const Step& s) { of(s).run_hidden(run, s); }
  static void gradient(Run& run, const Step& s) {
    of(s).forms(run.plan.options) ? of(s).run_formed_gradient(run, s) : of(s).run_gradient(run, s);
  }
  static constexpr StepKind kHidden{"adapter_hidden", hidden};
  static constexpr StepKind kGradient{"linear_param_gradient", gradient};
};

PairTerm::PairTerm(const AdapterSpec& spec, int index, const Site& site)
    : spec_(spec), slot_(spec.slots[index]), index_(index), site_(site) {}

std::vector<int> PairTerm::trained() const {
  std::vector<int> found;
  for (const int parameter : {slot_.a, slot_.b, slot_.a2, slot_.b2})
    if (spec_.trains(parameter)) found.push_back(parameter);
  return found;
}

bool PairTerm::forms(const PlanOptions& options) const {
  if (options.mode != Mode::train) return false;
  const auto [first, second] = pair_ranks(spec_, slot_);
  const double out = static_cast<double>(site_.out), in = static_cast<double>(site_.in), cells = out * in;
  const double tokens = static_cast<double>(options.tokens), rank = static_cast<double>(slot_.rank);
  // Per token: h and y forward, h again, the gradients at h, A, B and x.
  const double factored = tokens * rank * (3.0 * (out + in) + in);
  // Per token the change's gradient, and where rounding keeps it apart from the base weight also its products with x
  // and dy; per step it is made for each of them, from two products, and its gradient takes four and those two again.
  const double products = options.precision == Precision::f32 ? 1 : options.recompute ? 4 : 3;
  const double made = options.recompute ? 6 : 5;
  return cells * (tokens * products + made * static_cast<double>(first + second)) < factored;
}

Pair PairTerm::pair(const AdapterRun& adapter) const {
  const auto [first, second] = pair_ranks(spec_, slot_);
  return {site_.out,
          site_.in,
          first,
          second,
          adapter.value(slot_.b),
          adapter.value(slot_.a),
          adapter.value(slot_.b2),
          adapter.value(slot_.a2)};
}

Factor PairTerm::build_a(Run& run, const AdapterRun& adapter) const {
  const Ptr<float> built = run.room->take<float>(slot_.rank * site_.in);
  run.launch(BuildPairA{pair(adapter), built});
  return {slot_.rank, site_.in, -1, 0, built, site_.in};
}

/// The change of the weight, [out, in], and in fp32 the weight with it: in 16 bits one rounding of the sum would lose
/// much of the change, which is small.
Factor PairTerm::form(Run& run, const AdapterRun& adapter) const {
  const Ptr<float> delta = run.room->take<float>(site_.out * site_.in);
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = draw_row_gains(run, slot_.delta_dropout, site_.node, site_.out);
  const Factor base = run.precision() == Precision::f32 ? run.weight(run.graph.nodes[site_.node].weight) : Factor();
  run.launch(AddPair{pair(adapter), base, slot_.scale, gains, delta});
  return {site_.out, site_.in, -1, 0, delta, site_.in};
}

/// h = x A^T
void PairTerm::hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& h) const {
  const Layout::Scope scope(*run.room);
  const Segment segment{x, build_a(run, adapter)};
  run.launch(GemmNt{run.precision(), run.tokens, slot_.rank, {&segment, 1}, {h}});
}

void PairTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  slot_.ranks(adapter.rank);  // refuses a part of them
  const Matrix x = run.matrix(product.step.x);
  if (forms(run.plan.options)) {
    const Segment formed{x, form(run, adapter)};
    if (run.precision() == Precision::f32)
      product.segments[0] = formed;
    else
      product.segments.push_back(formed);
    return;
  }
  const Ptr<float> folded = run.room->take<float>(site_.out * slot_.rank);
  const Matrix h = product.step.aux >= 0 ? run.matrix(product.step.aux) : run.take_operand(slot_.rank);
  hidden(run, adapter, x, h);
  if (run.plan.options.output_norms && &adapter == run.adapters[0])
    run.launch(SecondMoment{run.tokens, slot_.rank, h, adapter.moment(index_)});
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = product.scale != nullptr ? product.scale->over(run, adapter, site_.node)
                                                    : draw_row_gains(run, slot_.delta_dropout, site_.node, site_.out);
  run.launch(FoldPair{pair(adapter), slot_.scale, adapter.weight, gains, folded});
  product.segments.push_back({h, {site_.out, slot_.rank, -1, 0, folded, slot_.rank}});
}

/// x -> aux = h alone, when only the gradients of b and b2 need it
void PairTerm::run_hidden(Run& run, const Step& s) const {
  hidden(run, *run.adapters[0], run.matrix(s.x), run.matrix(s.aux));
}

void PairTerm::backward(Planner& plan, int dy, GradientTerm& share) const {
  const Node& node = plan.node(site_.node);
  const int x = node.inputs[0];
  Step step = plan.step(PairSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step.dy = dy;
  if (forms(plan.options())) {
    step.x = plan.materialize(x);
  } else {
    const bool trains_a = spec_.trains(slot_.a) || spec_.trains(slot_.a2);
    if (spec_.trains(slot_.b) || spec_.trains(slot_.b2))
      step.aux = materialize_hidden(plan, *this, PairSteps::kHidden, site_.node, slot_.rank);
    if (trains_a) step.x = plan.materialize(x);
    if (trains_a || plan.needs_gradient(x)) {
      share.dh = step.y = plan.add_buffer(node.path + " gradient at h", Category::activations, plan.operand(),
                                          RowKind::tokens, slot_.rank);
      step.writes = {step.y};
    }
  }
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, aux = h, dy -> y = gradient at h; adds to the gradients of the factors
void PairTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const int64_t rank = slot_.rank;
  const Matrix dy = run.matrix(s.dy);
  const Ptr<float> gains = draw_row_gains(run, slot_.delta_dropout, site_.node, site_.out);
  const Ptr<float> folded = run.room->take<float>(site_.out * rank);
  if (s.y >= 0) {
    run.launch(FoldPair{pair(adapter), slot_.scale, 1, gains, folded});
    const Segment segment{dy, {site_.out, rank, -1, 0, folded, rank}};
    run.launch(GemmNn{run.precision(), run.tokens, rank, {&segment, 1}, {run.matrix(s.y)}});
  }
  if (s.aux >= 0) {
    run.launch(Zero{folded.as<std::byte>(), site_.out * rank * 4});
    run.launch(
        ReduceTokens{run.precision(), run.tokens, run.matrix(s.aux), rank, dy, site_.out, 1, folded, rank, true});
    run.launch(SpreadPairB{pair(adapter), slot_.scale, gains, folded, adapter.gradient_if(slot_.b),
                           adapter.gradient_if(slot_.b2)});
  }
  if (s.x < 0) return;
  const Ptr<float> at_a = run.room->take<float>(rank * site_.in);
  run.launch(Zero{at_a.as<std::byte>(), rank * site_.in * 4});
  run.launch(ReduceTokens{run.precision(), run.tokens, run.matrix(s.y), rank, run.matrix(s.x), site_.in, 1, at_a,
                          site_.in, false});
  run.launch(SpreadPairA{pair(adapter), at_a, adapter.gradient_if(slot_.a), adapter.gradient_if(slot_.a2)});
}

/// The gradient of the change, dy^T x, a block of its rows at a time, and from it those of the factors: of b times a it
/// is that of the change times the other product, element by element.
void PairTerm::run_formed_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const int64_t out = site_.out, in = site_.in;
  const Ptr<float> gains = draw_row_gains(run, slot_.delta_dropout, site_.node, out);
  // Gradients at the change, then at the pair's first product, and at its second.
  const Ptr<float> first = run.room->take<float>(std::min(out, kDeltaRows) * in);
  const Ptr<float> second = run.room->take<float>(std::min(out, kDeltaRows) * in);
  for (int64_t begin = 0; begin < out; begin += kDeltaRows) {
    const int64_t rows = std::min(kDeltaRows, out - begin);
    run.launch(Zero{first.as<std::byte>(), rows * in * 4});
    run.launch(ReduceTokens{run.precision(), run.tokens, run.matrix(s.dy).columns(begin), rows, run.matrix(s.x), in,
                            slot_.scale, first, in, false});
    run.launch(SplitPair{pair(adapter).from(begin, rows), gains ? gains + begin : gains, first, second});
    for (const auto& [b, a, g] : {std::tuple{slot_.b, slot_.a, first}, {slot_.b2, slot_.a2, second}}) {
      const int64_t rank = spec_.parameters[a].rows;
      const Matrix at{g.as<std::byte>(), DType::f32, in};
      if (spec_.trains(a))
        run.launch(ReduceTokens{Precision::f32,
                                rows,
                                {(adapter.value(b) + begin * rank).as<std::byte>(), DType::f32, rank},
                                rank,
                                at,
                                in,
                                1,
                                adapter.gradient(a),
                                in,
                                false});
      if (!spec_.trains(b)) continue;
      const Ptr<float> db = adapter.gradient(b) + begin * rank;
      const Segment segment{at, {rank, in, -1, 0, adapter.value(a), in}};
      run.launch(
          GemmNt{Precision::f32, rows, rank, {&segment, 1}, {{db.as<std::byte>(), DType::f32, rank}, {}, db, rank}});
    }
  }
}

void PairTerm::input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const {
  if (forms(run.plan.options)) {
    const Factor formed = form(run, adapter);
    if (run.precision() == Precision::f32)
      gradient.segments[gradient.base].w = formed;
    else
      gradient.segments.push_back({run.matrix(gradient.term.dy), formed});
  } else if (gradient.term.dh >= 0) {
    gradient.segments.push_back({run.matrix(gradient.term.dh), build_a(run, adapter)});
  }
}

std::unique_ptr<DeltaRows> PairTerm::delta_rows(const Adapter& adapter, float counts, int64_t wanted) const {
  const int64_t rank = slot_.ranks(wanted);
  std::vector<float> b(site_.out * rank), a(rank * site_.in);
  const int64_t second = pair_ranks(spec_, slot_).second;
  pair_a_rows(adapter.data(slot_.a), adapter.data(slot_.a2), second, site_.in, 0, rank, a.data());
  fold(adapter, slot_, rank, 0, site_.out, b.data());
  for (float& value : b) value *= counts;
  return std::make_unique<ProductRows>(std::move(b), std::move(a), rank, site_.in);
}

}  // namespace lowrank
