#include "adapters/embedding_term.h"

#include "core/factors.h"

namespace lowrank {

struct EmbeddingSteps {
  static void gradient(Run& run, const Step& s) { static_cast<const EmbeddingTerm&>(*s.term).run_gradient(run, s); }
  static constexpr StepKind kGradient{"embedding_adapter_gradient", roles<EmbeddingTerm::Role>, gradient};
};

EmbeddingTerm::EmbeddingTerm(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  ranks_ = Ranks::read(read);
  a_ = read.role("a");
  b_ = read.role("b");
  read.done();
}

void EmbeddingTerm::check() const {
  ranks_.check(target());
  expect(a_, "A", ranks_.all, -1);
  expect(b_, "B", -1, ranks_.all);
}

void EmbeddingTerm::check_site(const std::string& what) const {
  const ParameterSpec &a = parameter(a_), &b = parameter(b_);
  if (a.cols != site_.in || b.rows != site_.out)
    fail("SHAPE", "adapter at ", target(), ": A is [", a.rows, ", ", a.cols, "] and B [", b.rows, ", ", b.cols,
         "] but ", what, " is [", site_.out, ", ", site_.in, "]");
}

TermFacts EmbeddingTerm::facts() const { return {ranks_.all, a_, b_, -1, true}; }

std::vector<int> EmbeddingTerm::trained() const { return trained_of({a_, b_}); }

/// h = A[:, id]^T of the ranks in use, f32.
Matrix EmbeddingTerm::look_up(Run& run, const AdapterRun& adapter, int64_t active) const {
  const Ptr<float> h = run.room->take<float>(run.plan.options.tokens * active);
  run.launch(GatherColumns{run.tokens, run.at<int32_t>(run.plan.tokens), active, site_.in, adapter.value(a_), h});
  return {h.as<std::byte>(), DType::f32, active};
}

Factor EmbeddingTerm::fold(Run& run, const AdapterRun& adapter, int64_t active, float weight) const {
  const Ptr<float> folded = run.room->take<float>(site_.out * active);
  run.launch(
      Fold{site_.out, ranks_.all, active, ranks_.scale_at(active), weight, adapter.value(b_), {}, {}, {}, {}, folded});
  return {site_.out, active, -1, 0, folded, active};
}

void EmbeddingTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  const Layout::Scope scope(*run.room);
  const int64_t active = ranks_.of(adapter.rank);
  const Factor folded = fold(run, adapter, active, adapter.weight);
  const Matrix h = look_up(run, adapter, active);
  if (run.plan.options.output_norms && &adapter == run.adapters[0])
    run.launch(SecondMoment{run.tokens, active, h, adapter.moment(index())});
  const Segment segment{h, folded};
  run.launch(GemmNt{run.precision(),
                    run.tokens,
                    site_.out,
                    {&segment, 1},
                    {product.to.y, {}, product.to.y.data.as<float>(), site_.out}});
}

void EmbeddingTerm::backward(Planner& plan, int dy, GradientTerm&) const {
  Step step = plan.step(EmbeddingSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::ids] = plan.plan().tokens;
  step[Role::dy] = dy;
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// ids, dy -> adds to the gradients of A and B
void EmbeddingTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const int64_t out = site_.out, active = ranks_.of(adapter.rank), first = adapter.last_rank_only ? active - 1 : 0;
  const Matrix dy = run.matrix(s[Role::dy]);
  if (spec_.trains(a_)) {
    const Layout::Scope scope(*run.room);
    const Factor folded = fold(run, adapter, active, 1);
    const Ptr<float> dh = run.room->take<float>(run.plan.options.tokens * active);
    const Segment segment{dy, folded};
    run.launch(GemmNn{run.precision(), run.tokens, active, {&segment, 1}, {{dh.as<std::byte>(), DType::f32, active}}});
    run.launch(
        ScatterColumns{run.tokens, run.at<int32_t>(s[Role::ids]), first, active, site_.in, dh, adapter.gradient(a_)});
  }
  if (!spec_.trains(b_)) return;
  const Matrix h = look_up(run, adapter, active);
  run.launch(ReduceTokens{run.precision(), run.tokens, h.columns(first), active - first, dy, out,
                          ranks_.scale_at(active), adapter.gradient(b_) + first, ranks_.all, true});
}

std::vector<float> EmbeddingTerm::folded(const Adapter& adapter, int64_t active, float weight) const {
  std::vector<float> out(site_.out * active);
  fold_rows({ranks_.all, active, ranks_.scale_at(active), weight, adapter.view(b_).data(), nullptr, nullptr, nullptr,
             nullptr},
            0, site_.out, out.data());
  return out;
}

/// Row `id` of the table gets A[:, id]^T (scale B)^T: A transposed takes B's place, and B that of A.
std::unique_ptr<DeltaRows> EmbeddingTerm::delta_rows(const Adapter& adapter, float counts, int64_t wanted) const {
  const int64_t rank = ranks_.of(wanted), vocab = site_.in, width = site_.out;
  const std::vector<float> folded = this->folded(adapter, rank, counts);
  std::vector<float> columns(vocab * rank), rows(rank * width);
  const HostView<const float> a = adapter.view(a_);
  for (int64_t j = 0; j < rank; ++j) {
    for (int64_t id = 0; id < vocab; ++id) columns[id * rank + j] = a[j * vocab + id];
    for (int64_t i = 0; i < width; ++i) rows[j * width + i] = folded[i * rank + j];
  }
  return std::make_unique<ProductRows>(std::move(columns), std::move(rows), rank, width);
}

}  // namespace lowrank
