#include "adapters/low_rank.h"

#include <algorithm>

#include "adapters/magnitude.h"
#include "adapters/snapshot.h"

namespace lowrank {

void fold_slot(Run& run, const AdapterRun& adapter, const LowRankSlot& slot, int64_t rows, float weight,
               Ptr<float> gains, Ptr<float> out) {
  const int64_t active = slot.ranks(adapter.rank);
  run.launch(Fold{rows, slot.rank, active, slot.scale_at(active), weight, adapter.value(slot.b),
                  adapter.value_if(slot.d), adapter.value_if(slot.mask), adapter.value_if(slot.b_gain), gains, out});
}

/// Its steps find the term that they are of.
struct LowRankSteps {
  static const LowRank& of(const Step& s) { return static_cast<const LowRank&>(*s.term); }
  static void hidden(Run& run, const Step& s) { of(s).run_hidden(run, s); }
  static void gradient(Run& run, const Step& s) { of(s).run_gradient(run, s); }
  static constexpr StepKind kHidden{"adapter_hidden", hidden};
  static constexpr StepKind kGradient{"linear_param_gradient", gradient};
};

LowRank::LowRank(const AdapterSpec& spec, int index, const Site& site)
    : spec_(spec), slot_(spec.slots[index]), index_(index), site_(site) {}

std::vector<int> LowRank::trained() const {
  std::vector<int> found;
  for (const int parameter : {slot_.a, slot_.b, slot_.d, slot_.b_gain})
    if (spec_.trains(parameter)) found.push_back(parameter);
  return found;
}

bool LowRank::snapshot_acts(const Run& run, const AdapterRun& adapter) const {
  return slot_.has_snapshot() && run.may(adapter.host_value(slot_.snapshot_ratio) != 0);
}

/// The ranks of A in use; the first columns of one that is wider, as VeRA's shared one may be.
Factor LowRank::factor_a(const AdapterRun& adapter) const {
  return {slot_.ranks(adapter.rank), site_.in, -1, 0, adapter.value(slot_.a), spec_.parameters[slot_.a].cols};
}

Factor LowRank::snapshot_a(const AdapterRun& adapter, int64_t rows) const {
  const ParameterSpec& a = spec_.parameters[slot_.snapshot_a];
  return {rows, a.cols, -1, 0, adapter.value(slot_.snapshot_a), a.cols};
}

/// What B A counts for beside the snapshot, and what B* A* does.
void LowRank::fold_snapshot(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const {
  const float ratio = adapter.host_value(slot_.snapshot_ratio);
  const float own = weight * slot_.scale * (slot_.subtracts ? 1 : 1 + ratio), taken = -weight * slot_.scale * ratio;
  run.launch(FoldSnapshot{site_.out, slot_.rank, own, taken, adapter.value(slot_.b), adapter.value(slot_.snapshot_b),
                          gains, out});
}

Matrix LowRank::drop(Run& run, const Matrix& x, const Matrix& out) const {
  run.launch(Dropout{run.tokens, site_.in, x, slot_.dropout, run.dropout_key(site_.node), out});
  return out;
}

/// h = x A^T, of the dropped input where the slot drops in training.
void LowRank::hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& dropped,
                     const Matrix& h) const {
  const Factor a = factor_a(adapter);
  const Segment segment{drops(run) ? drop(run, x, dropped) : x, a};
  run.launch(GemmNt{run.precision(), run.tokens, a.rows, {&segment, 1}, {h}});
}

void LowRank::forward(Run& run, AdapterRun& adapter, Product& product) const {
  const int64_t active = slot_.ranks(adapter.rank);
  const Matrix x = run.matrix(product.step.x);
  const Ptr<float> folded = run.room->take<float>(site_.out * slot_.folded_cols());
  const Matrix h = product.step.aux >= 0 ? run.matrix(product.step.aux) : run.take_operand(slot_.rank);
  if (drops(run)) product.dropped = run.take_operand(site_.in);
  Matrix h_snapshot = slot_.has_snapshot() ? run.take_operand(slot_.rank) : Matrix();
  hidden(run, adapter, x, product.dropped, h);
  if (run.plan.options.output_norms && &adapter == run.adapters[0])
    run.launch(SecondMoment{run.tokens, slot_.rank, h, adapter.moment(index_)});
  const bool snapshot = snapshot_acts(run, adapter);
  if (snapshot) {
    h_snapshot.ld = active;
    const Segment through{x, snapshot_a(adapter, active)};
    run.launch(GemmNt{run.precision(), run.tokens, active, {&through, 1}, {h_snapshot}});
  }
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = product.scale == nullptr ? Ptr<float>() : product.scale->over(run, adapter, site_.node);
  if (snapshot) {
    fold_snapshot(run, adapter, adapter.weight, gains, folded);
    product.segments.push_back({h, {site_.out, active, -1, 0, folded, 2 * active}});
    product.segments.push_back({h_snapshot, {site_.out, active, -1, 0, folded + active, 2 * active}});
    return;
  }
  fold_slot(run, adapter, slot_, site_.out, adapter.weight, gains, folded);
  product.segments.push_back({h, {site_.out, active, -1, 0, folded, active}});
}

/// x -> aux = h alone, when only the gradient of B needs it
void LowRank::run_hidden(Run& run, const Step& s) const {
  const Matrix dropped = drops(run) ? run.take_operand(site_.in) : Matrix();
  hidden(run, *run.adapters[0], run.matrix(s.x), dropped, run.matrix(s.aux));
}

void LowRank::backward(Planner& plan, int dy, GradientTerm& share) const {
  const Node& node = plan.node(site_.node);
  const int x = node.inputs[0];
  const bool trains_a = spec_.trains(slot_.a);
  Step step = plan.step(LowRankSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step.dy = dy;
  if (spec_.trains(slot_.b) || spec_.trains(slot_.d) || spec_.trains(slot_.b_gain))
    step.aux = materialize_hidden(plan, *this, LowRankSteps::kHidden, site_.node, slot_.rank);
  if (trains_a) step.x = plan.materialize(x);
  if (trains_a || plan.needs_gradient(x)) {
    share.dh = step.y = plan.add_buffer(node.path + " gradient at h", Category::activations, plan.operand(),
                                        RowKind::tokens, slot_.folded_cols());
    step.writes = {step.y};
  }
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, aux = h, dy -> y = gradient at h; adds to the gradients of A, B, d and b_gain
void LowRank::run_gradient(Run& run, const Step& s) const {
  AdapterRun& adapter = *run.adapters[0];
  const int64_t active = slot_.ranks(adapter.rank);
  // Ranks from `first` on get gradients: all that are in use, or the last of them alone.
  const int64_t first = adapter.last_rank_only ? active - 1 : 0;
  const Matrix dy = run.matrix(s.dy);
  const bool snapshot = snapshot_acts(run, adapter);
  const Ptr<float> folded = run.room->take<float>(site_.out * slot_.folded_cols());
  if (s.y >= 0) {  // gradient at h = dy B
    if (snapshot)
      fold_snapshot(run, adapter, 1, {}, folded);
    else
      fold_slot(run, adapter, slot_, site_.out, 1, {}, folded);
    const int64_t columns = snapshot ? 2 * active : active;
    const Segment segment{dy, {site_.out, columns, -1, 0, folded, columns}};
    run.launch(GemmNn{run.precision(), run.tokens, columns, {&segment, 1}, {run.matrix(s.y)}});
  }
  if (s.aux >= 0) {
    const Matrix h = run.matrix(s.aux);
    if (!slot_.has_gains()) {
      run.reduce_into(adapter, slot_.b, first,
                      {run.precision(),
                       run.tokens,
                       h.columns(first),
                       active - first,
                       dy,
                       site_.out,
                       slot_.scale_at(active),
                       {},
                       slot_.rank,
                       true});
    } else {
      run.launch(Zero{folded.as<std::byte>(), site_.out * active * 4});
      run.launch(ReduceTokens{run.precision(), run.tokens, h, active, dy, site_.out, 1, folded, active, true});
      run.launch(FoldGradient{site_.out, slot_.rank, active, slot_.scale_at(active), adapter.value(slot_.b),
                              adapter.value_if(slot_.d), adapter.value_if(slot_.mask), adapter.value_if(slot_.b_gain),
                              folded, adapter.gradient_if(slot_.b), adapter.gradient_if(slot_.d),
                              adapter.gradient_if(slot_.b_gain)});
    }
  }
  if (s.x < 0) return;
  const Matrix x = drops(run) ? drop(run, run.matrix(s.x), run.take_operand(site_.in)) : run.matrix(s.x);
  const float ratio = snapshot ? adapter.host_value(slot_.snapshot_ratio) : 0;
  const float scale = snapshot ? 1 / (slot_.subtracts ? 1 : 1 + ratio) : 1;
  run.reduce_into(adapter, slot_.a, first * site_.in,
                  {run.precision(),
                   run.tokens,
                   run.matrix(s.y).columns(first),
                   active - first,
                   x,
                   site_.in,
                   scale,
                   {},
                   site_.in,
                   false});
}

void LowRank::input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const {
  if (gradient.term.dh < 0) return;
  const Matrix dh = run.matrix(gradient.term.dh);
  const Segment own{dh, factor_a(adapter)};
  if (slot_.dropout > 0) {
    gradient.dropout = slot_.dropout;
    gradient.masked.push_back(own);
  } else {
    gradient.segments.push_back(own);
  }
  if (snapshot_acts(run, adapter))
    gradient.segments.push_back({dh.columns(slot_.rank), snapshot_a(adapter, slot_.rank)});
}

std::unique_ptr<DeltaRows> LowRank::delta_rows(const Adapter& adapter, float counts, int64_t wanted) const {
  const bool snapshot = snapshot_ratio(adapter, slot_) != 0;  // which goes with all ranks
  const int64_t rank = snapshot ? slot_.rank : slot_.ranks(wanted), ld = spec_.parameters[slot_.a].cols;
  const auto counted = [&](std::vector<float>& b) {
    for (float& value : b) value *= counts;
  };
  if (snapshot) {
    std::vector<float> b(site_.out * 2 * rank), a;
    for (const int factor : {slot_.a, slot_.snapshot_a})
      a.insert(a.end(), adapter.data(factor), adapter.data(factor) + rank * ld);
    lowrank::fold_snapshot(adapter, slot_, b.data());
    counted(b);
    return std::make_unique<ProductRows>(std::move(b), std::move(a), 2 * rank, ld);
  }
  std::vector<float> b(site_.out * rank);
  fold(adapter, slot_, rank, 0, site_.out, b.data());
  counted(b);
  return std::make_unique<ProductRows>(std::move(b), adapter.data(slot_.a), rank, ld);
}

}  // namespace lowrank
