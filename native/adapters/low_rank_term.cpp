#include "adapters/low_rank_term.h"

#include <algorithm>

#include "adapters/magnitude.h"
#include "core/error.h"
#include "core/factors.h"

namespace lowrank {

/// Its steps find the term that they are of.
struct LowRankSteps {
  static const LowRank& of(const Step& s) { return static_cast<const LowRank&>(*s.term); }
  static void hidden(Run& run, const Step& s) { of(s).run_hidden(run, s); }
  static void gradient(Run& run, const Step& s) { of(s).run_gradient(run, s); }
  static constexpr StepKind kHidden{"adapter_hidden", roles<HiddenRole>, hidden};
  static constexpr StepKind kGradient{"linear_param_gradient", roles<HiddenRole>, gradient};
};

LowRank::LowRank(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  ranks_ = Ranks::read(read);
  dropout_ = read.number("dropout", 0);
  a_ = read.role("a");
  b_ = read.role("b");
  d_ = read.role_if("d");
  mask_ = read.role_if("mask");
  b_gain_ = read.role_if("bGain");
  magnitude_ = read.role_if("magnitude");
  snapshot_a_ = read.role_if("snapshotA");
  snapshot_b_ = read.role_if("snapshotB");
  snapshot_ratio_ = read.role_if("snapshotRatio");
  subtracts_ = read.number("subtracts", 0) != 0;
  read.done();
}

void LowRank::check() const {
  ranks_.check(target());
  expect(a_, "A", ranks_.all, -1);
  expect(b_, "B", -1, ranks_.all);
  expect(d_, "d", 1, ranks_.all);
  expect(mask_, "mask", 1, ranks_.all);
  const int64_t rows = parameter(b_).trained ? parameter(b_).rows : -1;
  expect(b_gain_, "b_gain", 1, rows);
  expect(magnitude_, "magnitude", 1, rows);
  if (mask_ >= 0 && parameter(mask_).trained) fail("SHAPE", "adapter at ", target(), ": the mask cannot be trained");
  check_dropout(dropout_);
  const int count = (snapshot_a_ >= 0) + (snapshot_b_ >= 0) + (snapshot_ratio_ >= 0);
  if (count == 0) return;
  if (count != 3 || has_gains() || magnitude_ >= 0 || dropout_ != 0 || ranks_.power != 0)
    fail("SHAPE", "adapter at ", target(), ": a snapshot needs A*, B*, and a ratio, and works only with A and B");
  expect(snapshot_a_, "A*", ranks_.all, a_ld());
  expect(snapshot_b_, "B*", parameter(b_).rows, ranks_.all);
  expect(snapshot_ratio_, "the snapshot's ratio", 1, 1);
  for (const int index : {snapshot_a_, snapshot_b_, snapshot_ratio_})
    if (parameter(index).trained)
      fail("SHAPE", "adapter at ", target(), ": ", parameter(index).name,
           " belongs to a snapshot and cannot be trained");
}

/// Exactly, or with room to spare where they are frozen.
void LowRank::check_site(const std::string& what) const {
  const ParameterSpec &a = parameter(a_), &b = parameter(b_);
  const auto fits = [&](int vector) { return vector < 0 || parameter(vector).cols == site_.out; };
  if ((a.trained ? a.cols != site_.in : a.cols < site_.in) || (b.trained ? b.rows != site_.out : b.rows < site_.out) ||
      !fits(b_gain_) || !fits(magnitude_))
    refuse_site(a_, b_, what);
}

TermFacts LowRank::facts() const {
  const bool apart = !has_gains() && magnitude_ < 0;
  return {ranks_.all, apart ? a_ : -1, apart ? b_ : -1, magnitude_, false};
}

std::vector<int> LowRank::trained() const { return trained_of({a_, b_, d_, b_gain_}); }

/// Throws Error("CONFIG") where only the whole rank makes sense.
int64_t LowRank::ranks_in_use(int64_t wanted) const {
  if (magnitude_ >= 0 && ranks_.of(wanted) != ranks_.all)
    fail("CONFIG", "adapter at ", target(), ": a magnitude needs the full rank of ", ranks_.all, ", not ", wanted);
  return ranks_.of(wanted);
}

Fold LowRank::fold_of(const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const {
  const int64_t active = ranks_in_use(adapter.rank);
  return {site_.out,
          ranks_.all,
          active,
          ranks_.scale_at(active),
          weight,
          adapter.value(b_),
          adapter.value_if(d_),
          adapter.value_if(mask_),
          adapter.value_if(b_gain_),
          gains,
          out};
}
void LowRank::fold(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const {
  run.launch(fold_of(adapter, weight, gains, out));
}
LowRankPart LowRank::part(const AdapterRun& adapter) const {
  return {0, 0, factor_a(adapter), fold_of(adapter, adapter.weight, {}, {})};
}

bool LowRank::snapshot_acts(const Run& run, const AdapterRun& adapter) const {
  return has_snapshot() && run.may(adapter.host_value(snapshot_ratio_) != 0);
}

/// The ranks of A in use; the first columns of one that is wider, as VeRA's shared one may be.
Factor LowRank::factor_a(const AdapterRun& adapter) const {
  return {ranks_in_use(adapter.rank), site_.in, -1, 0, adapter.value(a_), a_ld()};
}

Factor LowRank::snapshot_a(const AdapterRun& adapter, int64_t rows) const {
  const ParameterSpec& a = parameter(snapshot_a_);
  return {rows, a.cols, -1, 0, adapter.value(snapshot_a_), a.cols};
}

/// Factors of B A and of B* A* with a snapshot.
void LowRank::fold_snapshot(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const {
  const float ratio = adapter.host_value(snapshot_ratio_);
  const float own = weight * ranks_.scale * own_share(ratio), taken = -weight * ranks_.scale * ratio;
  run.launch(
      FoldSnapshot{site_.out, ranks_.all, own, taken, adapter.value(b_), adapter.value(snapshot_b_), gains, out});
}

/// h = x A^T, of the dropped input where it drops in training.
void LowRank::hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& dropped,
                     const Matrix& h) const {
  const Factor a = factor_a(adapter);
  const Segment segment{drops(run) ? drop(run, x, dropout_, dropped) : x, a};
  run.launch(GemmNt{run.precision(), run.tokens, a.rows, {&segment, 1}, {h}});
}

void LowRank::forward(Run& run, AdapterRun& adapter, Product& product) const {
  const int64_t active = ranks_in_use(adapter.rank);
  const Matrix x = run.matrix(product.step[ProductRole::x]);
  const Ptr<float> folded = run.room->take<float>(site_.out * folded_cols());
  const Matrix h = place_hidden(run, product, ranks_.all, active);
  if (drops(run) && !product.dropped.data) product.dropped = run.take_operand(site_.in);
  Matrix h_snapshot = has_snapshot() ? run.take_operand(ranks_.all) : Matrix();
  hidden(run, adapter, x, product.dropped, h);
  keep_hidden(run, product, h, active);
  if (run.plan.options.output_norms && &adapter == run.adapters[0])
    run.launch(SecondMoment{run.tokens, ranks_.all, h, adapter.moment(index())});
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
  fold(run, adapter, adapter.weight, gains, folded);
  product.segments.push_back({h, {site_.out, active, -1, 0, folded, active}});
}

/// x -> h alone, when only the gradient of B needs it
void LowRank::run_hidden(Run& run, const Step& s) const {
  const Matrix dropped = drops(run) ? run.take_operand(site_.in) : Matrix();
  hidden(run, *run.adapters[0], run.matrix(s[Role::x]), dropped, run.matrix(s[Role::h]));
}

void LowRank::backward(Planner& plan, int dy, GradientTerm& share) const {
  const Node& node = plan.node(site_.node);
  const int x = node.inputs[0];
  const bool trains_a = spec_.trains(a_);
  Step step = plan.step(LowRankSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::dy] = dy;
  if (spec_.trains(b_) || spec_.trains(d_) || spec_.trains(b_gain_))
    step[Role::h] = materialize_hidden(plan, *this, LowRankSteps::kHidden, site_.node, ranks_.all);
  if (trains_a) step[Role::x] = plan.materialize(x);
  if (trains_a || plan.needs_gradient(x)) {
    share.dh = step[Role::dh] = plan.add_buffer(node.path + " gradient at h", Category::activations, plan.operand(),
                                                RowKind::tokens, folded_cols());
    step.writes = step.by_rank = {share.dh};
  }
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, h, dy -> dh; adds to the gradients of A, B, d and b_gain
void LowRank::run_gradient(Run& run, const Step& s) const {
  AdapterRun& adapter = *run.adapters[0];
  const int64_t active = ranks_in_use(adapter.rank);
  // Ranks from `first` on get gradients: all ranks in use, or only the last one.
  const int64_t first = adapter.last_rank_only ? active - 1 : 0;
  const Matrix dy = run.matrix(s[Role::dy]);
  const bool snapshot = snapshot_acts(run, adapter);
  const Ptr<float> folded = run.room->take<float>(site_.out * folded_cols());
  if (s[Role::dh] >= 0) {  // gradient at h = dy B
    if (snapshot)
      fold_snapshot(run, adapter, 1, {}, folded);
    else
      fold(run, adapter, 1, {}, folded);
    const int64_t columns = snapshot ? 2 * active : active;
    const Segment segment{dy, {site_.out, columns, -1, 0, folded, columns}};
    run.launch(GemmNn{run.precision(), run.tokens, columns, {&segment, 1}, {run.matrix(s[Role::dh])}});
  }
  if (s[Role::h] >= 0) {
    const Matrix h = run.matrix(s[Role::h]);
    if (!has_gains()) {
      run.reduce_into(adapter, b_, first,
                      {run.precision(),
                       run.tokens,
                       h.columns(first),
                       active - first,
                       dy,
                       site_.out,
                       ranks_.scale_at(active),
                       {},
                       ranks_.all,
                       true});
    } else {
      run.launch(Zero{folded.as<std::byte>(), site_.out * active * 4});
      run.launch(ReduceTokens{run.precision(), run.tokens, h, active, dy, site_.out, 1, folded, active, true});
      run.launch(FoldGradient{site_.out, ranks_.all, active, ranks_.scale_at(active), adapter.value(b_),
                              adapter.value_if(d_), adapter.value_if(mask_), adapter.value_if(b_gain_), folded,
                              adapter.gradient_if(b_), adapter.gradient_if(d_), adapter.gradient_if(b_gain_)});
    }
  }
  if (s[Role::x] < 0) return;
  const Matrix x =
      drops(run) ? drop(run, run.matrix(s[Role::x]), dropout_, run.take_operand(site_.in)) : run.matrix(s[Role::x]);
  const float ratio = snapshot ? adapter.host_value(snapshot_ratio_) : 0;
  const float scale = snapshot ? 1 / own_share(ratio) : 1;
  run.reduce_into(adapter, a_, first * site_.in,
                  {run.precision(),
                   run.tokens,
                   run.matrix(s[Role::dh]).columns(first),
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
  (drops() ? gradient.masked : gradient.segments).push_back({dh, factor_a(adapter)});
  if (snapshot_acts(run, adapter))
    gradient.segments.push_back({dh.columns(ranks_.all), snapshot_a(adapter, ranks_.all)});
}

/// Gradient through the masked input.
void LowRank::finish_input_gradient(Run& run, AdapterRun&, InputGradient& gradient, const Matrix& dx) const {
  // The base's product of the dropped input counts gain - 1 times; see RowScale::finish.
  if (magnitude_ >= 0 && !gradient.masked.empty()) gradient.masked.push_back(masked_base(run, gradient.term));
  add_masked(run, gradient, dropout_, dx);
}

std::unique_ptr<DeltaRows> LowRank::delta_rows(const Adapter& adapter, float counts, int64_t wanted) const {
  const float ratio = has_snapshot() ? adapter.view(snapshot_ratio_)[0] : 0;  // which goes with all ranks
  const int64_t rank = ratio != 0 ? ranks_.all : ranks_in_use(wanted);
  std::vector<float> b = ratio != 0 ? folded_snapshot(adapter, ratio) : folded(adapter, rank);
  for (float& value : b) value *= counts;
  if (ratio == 0) return std::make_unique<ProductRows>(std::move(b), adapter.view(a_), rank, a_ld());
  std::vector<float> both;
  for (const int index : {a_, snapshot_a_}) {
    const HostView<const float> factor = adapter.view(index);
    both.insert(both.end(), factor.begin(), factor.begin() + rank * a_ld());
  }
  return std::make_unique<ProductRows>(std::move(b), std::move(both), 2 * rank, a_ld());
}

std::vector<float> LowRank::folded(const Adapter& adapter, int64_t active) const {
  const auto factor = [&](int index) { return index < 0 ? HostView<const float>() : adapter.view(index); };
  const HostView<const float> b = factor(b_), d = factor(d_), mask = factor(mask_), b_gain = factor(b_gain_);
  std::vector<float> out(site_.out * active);
  fold_rows({ranks_.all, active, ranks_.scale_at(active), 1, b.data(), d.data(), mask.data(), b_gain.data(), nullptr},
            0, site_.out, out.data());
  return out;
}

/// Factors of B and of B* with a snapshot, side by side.
std::vector<float> LowRank::folded_snapshot(const Adapter& adapter, float ratio) const {
  std::vector<float> out(site_.out * 2 * ranks_.all);
  fold_snapshot_rows({ranks_.all, ranks_.scale * own_share(ratio), -ranks_.scale * ratio, adapter.view(b_).data(),
                      adapter.view(snapshot_b_).data(), nullptr},
                     0, site_.out, out.data());
  return out;
}

}  // namespace lowrank
