// y += scale * diag(b_gain) B diag(d * mask) A x (LoRA, Hu et al. 2021, arXiv 2106.09685, and variants), with three
// ways to fold B: plain, with gains, and combined with a snapshot of A and B (Delta-LoRA, arXiv 2309.02411; PiSSA,
// arXiv 2404.02948).
#pragma once

#include "adapters/term.h"

namespace lowrank {

class LowRank final : public Term {
 public:
  static constexpr const char* kKind = "low_rank";
  static constexpr Op kAt = Op::linear;
  LowRank(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override;
  std::vector<int> trained() const override;
  int64_t hidden_cols(const PlanOptions&) const override { return ranks_.all; }
  bool joins(const PlanOptions&) const override { return !has_snapshot(); }
  bool adds_alone() const override { return magnitude_ < 0; }
  int64_t ranks_by_row() const override { return adds_alone() && !has_snapshot() ? ranks_.all : 0; }
  LowRankPart part(const AdapterRun& adapter) const override;
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const override;
  void finish_input_gradient(Run& run, AdapterRun&, InputGradient& gradient, const Matrix& dx) const override;
  std::vector<float> folded(const Adapter& adapter) const override { return folded(adapter, ranks_.all); }
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

  // Used by the magnitude of its rows.
  int magnitude() const { return magnitude_; }
  bool drops() const { return dropout_ > 0; }
  int64_t rank() const { return ranks_.all; }
  int a() const { return a_; }
  /// Row stride of A, in elements.
  int64_t a_ld() const { return parameter(a_).cols; }
  /// out [out, active] = B with all other factors folded in; see Fold.
  void fold(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const;

 private:
  friend struct LowRankSteps;
  using Role = HiddenRole;
  bool has_gains() const { return d_ >= 0 || mask_ >= 0 || b_gain_ >= 0; }
  bool has_snapshot() const { return snapshot_a_ >= 0; }
  /// Columns of the folded matrix: those of B, plus those of B* with a snapshot.
  int64_t folded_cols() const { return has_snapshot() ? 2 * ranks_.all : ranks_.all; }
  /// Coefficient of B A when B* A* has coefficient `ratio`.
  float own_share(float ratio) const { return subtracts_ ? 1 : 1 + ratio; }
  int64_t ranks_in_use(int64_t wanted) const;
  bool drops(const Run& run) const { return dropout_ > 0 && run.training(); }
  bool snapshot_acts(const Run& run, const AdapterRun& adapter) const;
  Factor factor_a(const AdapterRun& adapter) const;
  Fold fold_of(const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const;
  Factor snapshot_a(const AdapterRun& adapter, int64_t rows) const;
  void fold_snapshot(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const;
  std::vector<float> folded(const Adapter& adapter, int64_t active) const;
  std::vector<float> folded_snapshot(const Adapter& adapter, float ratio) const;
  void hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& dropped, const Matrix& h) const;
  void run_hidden(Run& run, const Step& s) const;
  void run_gradient(Run& run, const Step& s) const;

  Ranks ranks_;
  float dropout_;
  int a_, b_;      // [rank, in], [out, rank]; frozen ones may exceed the layer's size
  int d_, mask_;   // [1, rank]; the mask is never trained
  int b_gain_;     // [1, out]
  int magnitude_;  // [1, out]
  // A frozen pair of the same shapes. If the ratio is nonzero: scale ((1 + ratio) B A - ratio B* A*), or scale (B A -
  // ratio B* A*) if `subtracts_`. The gradients of A and B are those of scale B A.
  int snapshot_a_, snapshot_b_, snapshot_ratio_;
  bool subtracts_;
};

}  // namespace lowrank
