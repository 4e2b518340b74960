#include "adapters/pair_term.h"

#include <algorithm>

#include "adapters/magnitude.h"
#include "core/error.h"
#include "core/factors.h"

namespace lowrank {

/// Its steps find the term that they are of.
struct PairSteps {
  static const PairTerm& of(const Step& s) { return static_cast<const PairTerm&>(*s.term); }
  static void hidden(Run& run, const Step& s) { of(s).run_hidden(run, s); }
  static void gradient(Run& run, const Step& s) {
    of(s).forms(run.plan.options) ? of(s).run_formed_gradient(run, s) : of(s).run_gradient(run, s);
  }
  static constexpr StepKind kHidden{"adapter_hidden", roles<HiddenRole>, hidden};
  static constexpr StepKind kGradient{"linear_param_gradient", roles<HiddenRole>, gradient};
};

PairTerm::PairTerm(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  rank_ = static_cast<int64_t>(read.number("rank"));
  scale_ = read.number("scale");
  a_ = read.role("a");
  b_ = read.role("b");
  a2_ = read.role("a2");
  b2_ = read.role("b2");
  dropout_ = DeltaDropout::read(read);
  read.done();
}

void PairTerm::check() const {
  Ranks{rank_}.check(target());
  const ParameterSpec &a = parameter(a_), &b = parameter(b_), &a2 = parameter(a2_), &b2 = parameter(b2_);
  const bool fit = a.rows == b.cols && a2.rows == b2.cols && a.cols == a2.cols && b.rows == b2.rows;
  if (!fit || rank_ % a.rows != 0 || rank_ / a.rows != a2.rows)
    fail("SHAPE", "adapter at ", target(), ": a pair of products [", b.rows, ", ", b.cols, "] x [", a.rows, ", ",
         a.cols, "] and [", b2.rows, ", ", b2.cols, "] x [", a2.rows, ", ", a2.cols, "] at rank ", rank_);
  dropout_.check(target());
}

void PairTerm::check_site(const std::string& what) const {
  if (parameter(a_).cols != site_.in || parameter(b_).rows != site_.out) refuse_site(a_, b_, what);
}

TermFacts PairTerm::facts() const { return {.rank = rank_}; }

std::vector<int> PairTerm::trained() const { return trained_of({a_, b_, a2_, b2_}); }

void PairTerm::expect_whole(int64_t wanted) const {
  if (Ranks{rank_}.of(wanted) != rank_)
    fail("CONFIG", "adapter at ", target(), ": a pair of products needs the full rank of ", rank_, ", not ", wanted);
}

bool PairTerm::forms(const PlanOptions& options) const {
  if (options.mode != Mode::train) return false;
  const int64_t first = first_rank(), second = second_rank();
  const double out = static_cast<double>(site_.out), in = static_cast<double>(site_.in), cells = out * in;
  const double tokens = static_cast<double>(options.tokens), rank = static_cast<double>(rank_);
  // Per token: h and y forward, h again, the gradients at h, A, B and x.
  const double factored = tokens * rank * (3.0 * (out + in) + in);
  // Per token the change's gradient, and where rounding keeps it apart from the base weight also its products with x
  // and dy; per step it is made for each of them, from two products, and its gradient takes four and those two again.
  const double products = options.precision == Precision::f32 ? 1 : options.recompute ? 4 : 3;
  const double made = options.recompute ? 6 : 5;
  return cells * (tokens * products + made * static_cast<double>(first + second)) < factored;
}

Pair PairTerm::pair(const AdapterRun& adapter) const {
  return {site_.out,         site_.in,          first_rank(),       second_rank(),
          adapter.value(b_), adapter.value(a_), adapter.value(b2_), adapter.value(a2_)};
}

Factor PairTerm::build_a(Run& run, const AdapterRun& adapter) const {
  const Ptr<float> built = run.room->take<float>(rank_ * site_.in);
  run.launch(BuildPairA{pair(adapter), built});
  return {rank_, site_.in, -1, 0, built, site_.in};
}

/// The change of the weight, [out, in], and in fp32 the weight with it: in 16 bits one rounding of the sum would lose
/// much of the change, which is small.
Factor PairTerm::form(Run& run, const AdapterRun& adapter) const {
  const Ptr<float> delta = run.room->take<float>(site_.out * site_.in);
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = dropout_.draw(run, site_.node, site_.out);
  const Factor base = run.precision() == Precision::f32 ? run.weight(run.graph.nodes[site_.node].weight) : Factor();
  run.launch(AddPair{pair(adapter), base, scale_, gains, delta});
  return {site_.out, site_.in, -1, 0, delta, site_.in};
}

/// h = x A^T
void PairTerm::hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& h) const {
  const Layout::Scope scope(*run.room);
  const Segment segment{x, build_a(run, adapter)};
  run.launch(GemmNt{run.precision(), run.tokens, rank_, {&segment, 1}, {h}});
}

void PairTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  expect_whole(adapter.rank);
  const Matrix x = run.matrix(product.step[ProductRole::x]);
  if (forms(run.plan.options)) {
    const Segment formed{x, form(run, adapter)};
    if (run.precision() == Precision::f32)
      product.segments[0] = formed;
    else
      product.segments.push_back(formed);
    return;
  }
  const Ptr<float> folded = run.room->take<float>(site_.out * rank_);
  const Matrix h = place_hidden(run, product, rank_, rank_);
  hidden(run, adapter, x, h);
  keep_hidden(run, product, h, rank_);
  if (run.plan.options.output_norms && &adapter == run.adapters[0])
    run.launch(SecondMoment{run.tokens, rank_, h, adapter.moment(index())});
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = product.scale != nullptr ? product.scale->over(run, adapter, site_.node)
                                                    : dropout_.draw(run, site_.node, site_.out);
  run.launch(FoldPair{pair(adapter), scale_, adapter.weight, gains, folded});
  product.segments.push_back({h, {site_.out, rank_, -1, 0, folded, rank_}});
}

/// x -> h alone, when only the gradients of b and b2 need it
void PairTerm::run_hidden(Run& run, const Step& s) const {
  hidden(run, *run.adapters[0], run.matrix(s[Role::x]), run.matrix(s[Role::h]));
}

void PairTerm::backward(Planner& plan, int dy, GradientTerm& share) const {
  const Node& node = plan.node(site_.node);
  const int x = node.inputs[0];
  Step step = plan.step(PairSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::dy] = dy;
  if (forms(plan.options())) {
    step[Role::x] = plan.materialize(x);
  } else {
    const bool trains_a = spec_.trains(a_) || spec_.trains(a2_);
    if (spec_.trains(b_) || spec_.trains(b2_))
      step[Role::h] = materialize_hidden(plan, *this, PairSteps::kHidden, site_.node, rank_);
    if (trains_a) step[Role::x] = plan.materialize(x);
    if (trains_a || plan.needs_gradient(x)) {
      share.dh = step[Role::dh] =
          plan.add_buffer(node.path + " gradient at h", Category::activations, plan.operand(), RowKind::tokens, rank_);
      step.writes = step.by_rank = {share.dh};
    }
  }
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, h, dy -> dh; adds to the gradients of the factors
void PairTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const int64_t rank = rank_;
  const Matrix dy = run.matrix(s[Role::dy]);
  const Ptr<float> gains = dropout_.draw(run, site_.node, site_.out);
  const Ptr<float> folded = run.room->take<float>(site_.out * rank);
  if (s[Role::dh] >= 0) {
    run.launch(FoldPair{pair(adapter), scale_, 1, gains, folded});
    const Segment segment{dy, {site_.out, rank, -1, 0, folded, rank}};
    run.launch(GemmNn{run.precision(), run.tokens, rank, {&segment, 1}, {run.matrix(s[Role::dh])}});
  }
  if (s[Role::h] >= 0) {
    run.launch(Zero{folded.as<std::byte>(), site_.out * rank * 4});
    run.launch(
        ReduceTokens{run.precision(), run.tokens, run.matrix(s[Role::h]), rank, dy, site_.out, 1, folded, rank, true});
    run.launch(SpreadPairB{pair(adapter), scale_, gains, folded, adapter.gradient_if(b_), adapter.gradient_if(b2_)});
  }
  if (s[Role::x] < 0) return;
  const Ptr<float> at_a = run.room->take<float>(rank * site_.in);
  run.launch(Zero{at_a.as<std::byte>(), rank * site_.in * 4});
  run.launch(ReduceTokens{run.precision(), run.tokens, run.matrix(s[Role::dh]), rank, run.matrix(s[Role::x]), site_.in,
                          1, at_a, site_.in, false});
  run.launch(SpreadPairA{pair(adapter), at_a, adapter.gradient_if(a_), adapter.gradient_if(a2_)});
}

/// The gradient of the change, dy^T x, a block of its rows at a time, and from it those of the factors: of b times a it
/// is that of the change times the other product, element by element.
void PairTerm::run_formed_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const int64_t out = site_.out, in = site_.in;
  const Ptr<float> gains = dropout_.draw(run, site_.node, out);
  // Gradients at the change, then at the pair's first product, and at its second.
  const Ptr<float> first = run.room->take<float>(std::min(out, kChangeRows) * in);
  const Ptr<float> second = run.room->take<float>(std::min(out, kChangeRows) * in);
  for (int64_t begin = 0; begin < out; begin += kChangeRows) {
    const int64_t rows = std::min(kChangeRows, out - begin);
    run.launch(Zero{first.as<std::byte>(), rows * in * 4});
    run.launch(ReduceTokens{run.precision(), run.tokens, run.matrix(s[Role::dy]).columns(begin), rows,
                            run.matrix(s[Role::x]), in, scale_, first, in, false});
    run.launch(SplitPair{pair(adapter).from(begin, rows), gains ? gains + begin : gains, first, second});
    add_product_gradient(run, adapter, b_, a_, begin, rows, first);
    add_product_gradient(run, adapter, b2_, a2_, begin, rows, second);
  }
}

void PairTerm::input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const {
  if (forms(run.plan.options)) {
    const Factor formed = form(run, adapter);
    if (run.precision() == Precision::f32)
      gradient.segments[0].w = formed;
    else
      gradient.segments.push_back({run.matrix(gradient.term.dy), formed});
  } else if (gradient.term.dh >= 0) {
    gradient.segments.push_back({run.matrix(gradient.term.dh), build_a(run, adapter)});
  }
}

std::vector<float> PairTerm::folded(const Adapter& adapter) const {
  std::vector<float> b(site_.out * rank_);
  fold_pair_rows({first_rank(), second_rank(), scale_, 1, adapter.view(b_).data(), adapter.view(b2_).data(), nullptr},
                 0, site_.out, b.data());
  return b;
}

std::unique_ptr<DeltaRows> PairTerm::delta_rows(const Adapter& adapter, float counts, int64_t wanted) const {
  expect_whole(wanted);
  std::vector<float> b = folded(adapter), a(rank_ * site_.in);
  pair_a_rows(adapter.view(a_).data(), adapter.view(a2_).data(), second_rank(), site_.in, 0, rank_, a.data());
  for (float& value : b) value *= counts;
  return std::make_unique<ProductRows>(std::move(b), std::move(a), rank_, site_.in);
}

}  // namespace lowrank
