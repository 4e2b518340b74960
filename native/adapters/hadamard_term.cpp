#include "adapters/hadamard_term.h"

#include <algorithm>

#include "core/error.h"

namespace lowrank {

struct HadamardSteps {
  static void gradient(Run& run, const Step& s) { static_cast<const HadamardTerm&>(*s.term).run_gradient(run, s); }
  static constexpr StepKind kGradient{"linear_param_gradient", roles<HadamardTerm::Role>, gradient};
};

HadamardTerm::HadamardTerm(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  a_ = read.role("a");
  b_ = read.role("b");
  dropout_ = read.number("dropout", 0);
  read.done();
}

void HadamardTerm::check() const {
  expect(b_, "B", -1, rank());
  check_dropout(dropout_);
}

void HadamardTerm::check_site(const std::string& what) const {
  if (parameter(a_).cols != site_.in || parameter(b_).rows != site_.out) refuse_site(a_, b_, what);
}

Factor HadamardTerm::form(Run& run, const AdapterRun& adapter, float own) const {
  const Ptr<float> values = run.room->take<float>(site_.out * site_.in);
  const Layout::Scope scope(*run.room);
  Matrix b = f32_matrix(adapter.value(b_), rank());
  if (run.may(adapter.weight != 1)) {
    const Ptr<float> weighted = run.room->take<float>(site_.out * rank());
    run.launch(Fold{site_.out, rank(), rank(), 1, adapter.weight, adapter.value(b_), {}, {}, {}, {}, weighted});
    b = f32_matrix(weighted, rank());
  }
  const Segment product{b, {rank(), site_.in, -1, 0, adapter.value(a_), site_.in}};
  run.launch(GemmNn{Precision::f32, site_.out, site_.in, {&product, 1}, {f32_matrix(values, site_.in)}});
  run.launch(TimesWeight{run.weight(run.graph.nodes[site_.node].weight), own, values});
  return {site_.out, site_.in, -1, 0, values, site_.in};
}

void HadamardTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  if (joins_weight(run)) {
    product.segments[0].w = form(run, adapter, 1);
    return;
  }
  Matrix x = run.matrix(product.step[ProductRole::x]);
  if (drops(run)) {
    if (!product.dropped.data) product.dropped = run.take_operand(site_.in);
    x = drop(run, x, dropout_, product.dropped);
  }
  if (run.adapters.size() == 1) {
    product.segments.push_back({x, form(run, adapter, 0)});
    return;
  }
  product.start_sum(run);
  const Layout::Scope scope(*run.room);
  product.add_to_sum(run, {x, form(run, adapter, 0)});
}

void HadamardTerm::backward(Planner& plan, int dy, GradientTerm&) const {
  Step step = plan.step(HadamardSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::dy] = dy;
  step[Role::x] = plan.materialize(plan.node(site_.node).inputs[0]);
  step.adds = trained();
  plan.read_weight(step, site_.node);
  plan.push(std::move(step));
}

/// The gradient at W . B A, dy^T x, a block of its rows at a time; times W it is that at B A.
void HadamardTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const Factor w = run.weight(run.node(s).weight);
  const Matrix x =
      drops(run) ? drop(run, run.matrix(s[Role::x]), dropout_, run.take_operand(site_.in)) : run.matrix(s[Role::x]);
  const Ptr<float> g = run.room->take<float>(std::min(site_.out, kChangeRows) * site_.in);
  for (int64_t begin = 0; begin < site_.out; begin += kChangeRows) {
    const int64_t rows = std::min(kChangeRows, site_.out - begin);
    run.launch(Zero{g.as<std::byte>(), rows * site_.in * 4});
    run.launch(ReduceTokens{run.precision(), run.tokens, run.matrix(s[Role::dy]).columns(begin), rows, x, site_.in, 1,
                            g, site_.in, false});
    run.launch(TimesWeight{w.slice(begin, rows), 0, g});
    add_product_gradient(run, adapter, b_, a_, begin, rows, g);
  }
}

void HadamardTerm::input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const {
  if (joins_weight(run)) {
    gradient.segments[0].w = form(run, adapter, 1);
    return;
  }
  if (!drops(run)) gradient.segments.push_back({run.matrix(gradient.term.dy), form(run, adapter, 0)});
}

/// The change is formed here, since what the sum took of the workspace is free again.
void HadamardTerm::finish_input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient,
                                         const Matrix& dx) const {
  if (!drops(run)) return;
  gradient.masked.push_back({run.matrix(gradient.term.dy), form(run, adapter, 0)});
  add_masked(run, gradient, dropout_, dx);
}

std::unique_ptr<DeltaRows> HadamardTerm::delta_rows(const Adapter& adapter, float counts, int64_t) const {
  struct Rows final : DeltaRows {
    void add(int64_t row, std::span<const float> base, std::span<float> sum) const override {
      for (size_t i = 0; i < sum.size(); ++i) {
        double factor = 0;
        for (size_t j = 0; j < rank; ++j) factor += double{b[row * rank + j]} * a[j * sum.size() + i];
        sum[i] += static_cast<float>(counts * base[i] * factor);
      }
    }
    HostView<const float> a, b;
    size_t rank;
    float counts;
  };
  auto rows = std::make_unique<Rows>();
  rows->a = adapter.view(a_);
  rows->b = adapter.view(b_);
  rows->rank = static_cast<size_t>(rank());
  rows->counts = counts;
  return rows;
}

}  // namespace lowrank
