#include "adapters/rotation_term.h"

#include "core/cayley_neumann.h"
#include "core/error.h"

namespace lowrank {

struct RotationSteps {
  static void gradient(Run& run, const Step& s) { static_cast<const RotationTerm&>(*s.term).run_gradient(run, s); }
  static constexpr StepKind kGradient{"rotation_gradient", roles<RotationTerm::Role>, gradient};
};

RotationTerm::RotationTerm(const AdapterSpec& spec, int index, const Site& site) : Term(spec, index, site) {
  TermReader read(described());
  size_ = static_cast<int64_t>(read.number("size"));
  terms_ = static_cast<int>(read.number("terms"));
  skew_ = read.role("skew");
  read.done();
}

void RotationTerm::check() const {
  if (size_ < 2 || terms_ < 1)
    fail("SHAPE", "adapter at ", target(), ": blocks of ", size_, " columns and a series of ", terms_,
         " terms; expected at least 2 columns and 1 term");
  expect(skew_, "the upper triangles of a rotation", -1, shape().skew_elements());
}

void RotationTerm::check_site(const std::string& what) const {
  const int64_t blocks = shape().blocks;
  if (site_.in % size_ != 0 || (blocks != 1 && blocks * size_ != site_.in))
    fail("SHAPE", "adapter at ", target(), ": ", blocks, " blocks of ", size_, " columns do not match ", what,
         ", which is [", site_.out, ", ", site_.in, "]");
}

Ptr<float> RotationTerm::blocks(Run& run, const AdapterRun& adapter, bool back) const {
  const Ptr<float> d = run.room->take<float>(shape().blocks * shape().elements());
  run.launch(CayleyNeumann{shape(), terms_, back, back, adapter.value(skew_), d});
  return d;
}

/// A token that is generated would wait for D, which takes as many multiplications as `size` tokens.
void RotationTerm::turn(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& addend,
                        const Matrix& out) const {
  const Layout::Scope scope(*run.room);
  const bool few = run.tokens < size_;
  if (run.may(few))
    run.launch(
        RotateBySeries{run.tokens, site_.in, shape(), terms_, x, adapter.value(skew_), adapter.weight, addend, out});
  if (run.may(!few))
    run.launch(Rotate{run.tokens, site_.in, shape(), x, blocks(run, adapter, false), adapter.weight, addend, out});
}

void RotationTerm::forward(Run& run, AdapterRun& adapter, Product& product) const {
  const Matrix x = run.matrix(product.step[ProductRole::x]);
  const bool alone = run.adapters.size() == 1;
  if (!alone) product.start_sum(run);
  if (alone) {
    const Matrix turned = product.segments[0].x = run.take_operand(site_.in);
    return turn(run, adapter, x, x, turned);
  }
  // The changes of several adapters add up, each relative to the unchanged base.
  const Layout::Scope scope(*run.room);
  const Matrix change = run.take_operand(site_.in);
  turn(run, adapter, x, {}, change);
  product.add_to_sum(run, {change, run.weight(run.graph.nodes[site_.node].weight)});
}

/// The gradient at the rotated input is of this linear alone, so that its product with the weight joins no other's.
void RotationTerm::backward(Planner& plan, int dy, GradientTerm& share) const {
  const int x = plan.node(site_.node).inputs[0];
  Step step = plan.step(RotationSteps::kGradient, Phase::backward, site_.node);
  step.term = this;
  step[Role::dy] = dy;
  step[Role::x] = plan.materialize(x);
  step[Role::dx] = plan.make_gradient_part(step, x, "a rotation");
  share.dy = -1;
  step.adds = trained();
  plan.read_weight(step, site_.node);
  plan.push(std::move(step));
}

/// x, dy -> dx, added when `accumulate`; adds to the gradient of the skew-symmetric matrices
void RotationTerm::run_gradient(Run& run, const Step& s) const {
  const AdapterRun& adapter = *run.adapters[0];
  const Matrix turned{run.room->take<float>(run.plan.options.tokens * site_.in).as<std::byte>(), DType::f32, site_.in};
  const Segment segment{run.matrix(s[Role::dy]), run.weight(run.node(s).weight)};
  run.launch(GemmNn{run.precision(), run.tokens, site_.in, {&segment, 1}, {turned}});
  if (spec_.trains(skew_)) {
    const Layout::Scope scope(*run.room);
    const int64_t elements = shape().blocks * shape().elements();
    const Ptr<float> g = run.room->take<float>(elements);
    run.launch(Zero{g.as<std::byte>(), elements * 4});
    run.launch(RotationGradient{run.tokens, site_.in, shape(), run.matrix(s[Role::x]), turned, g});
    run.launch(CayleyNeumannBackward{shape(), terms_, adapter.value(skew_), g, adapter.gradient(skew_)});
  }
  if (s[Role::dx] < 0) return;
  const Matrix dx = run.matrix(s[Role::dx]);
  run.launch(
      Rotate{run.tokens, site_.in, shape(), turned, blocks(run, adapter, true), 1, s.accumulate ? dx : Matrix(), dx});
}

std::unique_ptr<DeltaRows> RotationTerm::delta_rows(const Adapter& adapter, float counts, int64_t) const {
  struct Rows final : DeltaRows {
    /// W_i (R - I)^T: element k of a block is the sum over c of D[k, c] W[i, c].
    void add(int64_t, std::span<const float> base, std::span<float> sum) const override {
      for (size_t i = 0; i < sum.size(); ++i) {
        const size_t block = i / size;
        const double* const d = blocks[blocks.size() == 1 ? 0 : block].data() + i % size * size;
        double change = 0;
        for (size_t c = 0; c < size; ++c) change += d[c] * base[block * size + c];
        sum[i] += static_cast<float>(counts * change);
      }
    }
    size_t size;
    float counts;
    std::vector<std::vector<double>> blocks;
  };
  auto rows = std::make_unique<Rows>();
  rows->size = static_cast<size_t>(size_);
  rows->counts = counts;
  const HostView<const float> skew = adapter.view(skew_);
  for (int64_t b = 0; b < shape().blocks; ++b)
    rows->blocks.push_back(cayley_neumann(size_, terms_, 1, skew.data() + b * shape().skew_elements()));
  return rows;
}

}  // namespace lowrank
