#include "adapters/kronecker_term.h"

#include "adapters/kronecker.h"

namespace lowrank {

struct KroneckerSteps {
  static void gradient(Run& run, const Step& s) { static_cast<const KroneckerTerm&>(*s.term).run_gradient(run, s); }
  static constexpr StepKind kGradient{"kronecker_gradient", gradient};
};

KroneckerTerm::KroneckerTerm(const AdapterSpec& spec, int index, const Site& site)
    : spec_(spec), slot_(spec.kroneckers[index]), site_(site) {}

std::vector<int> KroneckerTerm::trained() const {
  std::vector<int> found;
  for (const int parameter : {slot_.c, slot_.c2, slot_.d, slot_.d2})
    if (spec_.trains(parameter)) found.push_back(parameter);
  return found;
}

KroneckerPair KroneckerTerm::factors(Run& run, const AdapterRun& adapter) const {
  const KroneckerShape shape = kronecker_shape(spec_, slot_);
  Ptr<float> c = adapter.value(slot_.c);
  if (slot_.c2 >= 0) {
    const Ptr<float> made = run.room->take<float>(shape.l * shape.p);
    run.launch(KroneckerC{shape.l, spec_.parameters[slot_.c].cols, shape.p, c, adapter.value(slot_.c2), made});
    c = made;
  }
  return {shape.l, shape.p, shape.k, shape.q, shape.r, c, adapter.value(slot_.d), adapter.value_if(slot_.d2)};
}

/// Makes what it adds to the output, and the residual with it, the product's new residual.
void KroneckerTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  if (!product.sum) product.sum = run.room->take<float>(run.plan.options.tokens * site_.out);
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = draw_row_gains(run, slot_.delta_dropout, site_.node, site_.out);
  const KroneckerPair pair = factors(run, adapter);
  run.launch(Kronecker{run.tokens, pair, slot_.scale * adapter.weight, gains, run.matrix(product.step.x),
                       product.to.residual, product.sum});
  product.to.residual = product.sum;
  product.to.residual_ld = site_.out;
}

void KroneckerTerm::backward(Planner& plan, int dy, GradientTerm&) const {
  const Node& node = plan.node(site_.node);
  const int x = node.inputs[0];
  Step step = plan.step(KroneckerSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step.dy = dy;
  step.x = plan.materialize(x);
  if (plan.needs_gradient(x)) {
    int& part = plan.gradient_part(x);
    step.accumulate = part >= 0;
    if (!step.accumulate)
      part = plan.add_buffer("gradient of " + node.path + " input by C (x) D", Category::activations, DType::f32,
                             RowKind::tokens, site_.in);
    step.dx = part;
    step.writes = {part};
  }
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, dy -> dx f32, added when `accumulate`; adds to the gradients of the factors
void KroneckerTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const Ptr<float> gains = draw_row_gains(run, slot_.delta_dropout, site_.node, site_.out);
  const KroneckerPair pair = factors(run, adapter);
  const int64_t rank = spec_.parameters[slot_.c].cols;
  Ptr<float> dc = adapter.gradient_if(slot_.c);
  if (slot_.c2 >= 0) {
    dc = run.room->take<float>(pair.l * pair.p);
    run.launch(Zero{dc.as<std::byte>(), pair.l * pair.p * 4});
  }
  run.launch(KroneckerBackward{run.tokens, pair, slot_.scale, gains, run.matrix(s.x), run.matrix(s.dy), dc,
                               adapter.gradient_if(slot_.d), adapter.gradient_if(slot_.d2),
                               s.dx < 0 ? Ptr<float>() : run.at<float>(s.dx), s.accumulate});
  if (slot_.c2 >= 0)
    run.launch(SpreadKroneckerC{pair.l, rank, pair.p, adapter.value(slot_.c), adapter.value(slot_.c2), dc,
                                adapter.gradient_if(slot_.c), adapter.gradient_if(slot_.c2)});
}

std::unique_ptr<DeltaRows> KroneckerTerm::delta_rows(const Adapter& adapter, float counts, int64_t) const {
  struct Rows final : DeltaRows {
    Rows(const Adapter& adapter, const KroneckerSlot& slot, float counted) : rows(adapter, slot), counts(counted) {}
    void add(int64_t row, std::span<float> sum) const override { rows.add_row(row, counts, sum.data()); }
    bool comes_first() const override { return true; }
    KroneckerRows rows;
    float counts;
  };
  return std::make_unique<Rows>(adapter, slot_, counts);
}

}  // namespace lowrank
