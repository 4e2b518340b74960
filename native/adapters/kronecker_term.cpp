#include "adapters/kronecker_term.h"

#include <tuple>

#include "core/error.h"
#include "core/factors.h"

namespace lowrank {

struct KroneckerSteps {
  static void gradient(Run& run, const Step& s) { static_cast<const KroneckerTerm&>(*s.term).run_gradient(run, s); }
  static constexpr StepKind kGradient{"kronecker_gradient", roles<KroneckerTerm::Role>, gradient};
};

KroneckerTerm::KroneckerTerm(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  scale_ = read.number("scale");
  c_ = read.role("c");
  c2_ = read.role_if("c2");
  d_ = read.role("d");
  d2_ = read.role_if("d2");
  dropout_ = DeltaDropout::read(read);
  read.done();
}

void KroneckerTerm::check() const {
  for (const auto& [name, first, second] : {std::tuple{"C", c_, c2_}, {"D", d_, d2_}}) {
    if (second < 0) continue;
    const ParameterSpec &a = parameter(first), &b = parameter(second);
    if (a.cols != b.rows)
      fail("SHAPE", "adapter at ", target(), ": ", name, " is a product of [", a.rows, ", ", a.cols, "] and [", b.rows,
           ", ", b.cols, "]");
  }
  dropout_.check(target());
}

void KroneckerTerm::check_site(const std::string& what) const {
  if (l() * k() != site_.out || p() * q() != site_.in)
    fail("SHAPE", "adapter at ", target(), ": C (x) D is [", l(), " x ", k(), ", ", p(), " x ", q(), "] but ", what,
         " is [", site_.out, ", ", site_.in, "]");
}

TermFacts KroneckerTerm::facts() const { return {}; }

std::vector<int> KroneckerTerm::trained() const { return trained_of({c_, c2_, d_, d2_}); }

KroneckerPair KroneckerTerm::factors(Run& run, const AdapterRun& adapter) const {
  Ptr<float> c = adapter.value(c_);
  if (c2_ >= 0) {
    const Ptr<float> made = run.room->take<float>(l() * p());
    run.launch(KroneckerC{l(), parameter(c_).cols, p(), c, adapter.value(c2_), made});
    c = made;
  }
  return {{l(), p(), k(), q(), rank_of_d()}, c, adapter.value(d_), adapter.value_if(d2_)};
}

/// Makes what it adds to the output, and the residual with it, the product's new residual.
void KroneckerTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  product.start_sum(run);
  const Layout::Scope scope(*run.room);
  const Ptr<float> gains = dropout_.draw(run, site_.node, site_.out);
  const KroneckerPair pair = factors(run, adapter);
  run.launch(Kronecker{run.tokens, pair, scale_ * adapter.weight, gains, run.matrix(product.step[ProductRole::x]),
                       product.to.residual, product.sum});
  product.to.residual = product.sum;
  product.to.residual_ld = site_.out;
}

void KroneckerTerm::backward(Planner& plan, int dy, GradientTerm&) const {
  const int x = plan.node(site_.node).inputs[0];
  Step step = plan.step(KroneckerSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::dy] = dy;
  step[Role::x] = plan.materialize(x);
  step[Role::dx] = plan.make_gradient_part(step, x, "C (x) D");
  step.adds = trained();
  plan.touch(step, site_.node);
  plan.push(std::move(step));
}

/// x, dy -> dx, added when `accumulate`; adds to the gradients of the factors
void KroneckerTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const Ptr<float> gains = dropout_.draw(run, site_.node, site_.out);
  const KroneckerPair pair = factors(run, adapter);
  const int64_t rank = parameter(c_).cols;
  Ptr<float> dc = adapter.gradient_if(c_);
  if (c2_ >= 0) {
    dc = run.room->take<float>(l() * p());
    run.launch(Zero{dc.as<std::byte>(), l() * p() * 4});
  }
  run.launch(KroneckerBackward{run.tokens, pair, scale_, gains, run.matrix(s[Role::x]), run.matrix(s[Role::dy]), dc,
                               adapter.gradient_if(d_), adapter.gradient_if(d2_),
                               s[Role::dx] < 0 ? Ptr<float>() : run.at<float>(s[Role::dx]), s.accumulate});
  if (c2_ >= 0)
    run.launch(SpreadKroneckerC{l(), rank, p(), adapter.value(c_), adapter.value(c2_), dc, adapter.gradient_if(c_),
                                adapter.gradient_if(c2_)});
}

std::unique_ptr<DeltaRows> KroneckerTerm::delta_rows(const Adapter& adapter, float counts, int64_t) const {
  struct Rows final : DeltaRows {
    void add(int64_t row, std::span<const float>, std::span<float> sum) const override {
      const float* const of_c = c.data() + row / k * p;
      const float* const of_d = d.data() + row % k * q;
      for (int64_t a = 0; a < p; ++a) {
        const float factor = counts * scale * of_c[a];
        for (int64_t b = 0; b < q; ++b) sum[a * q + b] += factor * of_d[b];
      }
    }
    bool comes_first() const override { return true; }
    int64_t p, k, q;
    float scale, counts;
    std::vector<float> c, d;
  };
  /// A side [rows, cols]: a factor, or the product of two.
  const auto side = [&](int first, int second, int64_t rows, int64_t cols) {
    std::vector<float> whole(rows * cols);
    const HostView<const float> a = adapter.view(first);
    if (second < 0)
      whole.assign(a.begin(), a.begin() + rows * cols);
    else
      multiply_small(rows, parameter(first).cols, cols, a.data(), adapter.view(second).data(), whole.data());
    return whole;
  };
  auto rows = std::make_unique<Rows>();
  rows->p = p(), rows->k = k(), rows->q = q();
  rows->scale = scale_, rows->counts = counts;
  rows->c = side(c_, c2_, l(), p());
  rows->d = side(d_, d2_, k(), q());
  return rows;
}

}  // namespace lowrank
