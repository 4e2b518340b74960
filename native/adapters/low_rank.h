// y += scale * diag(b_gain) B diag(d * mask) A x (LoRA, Hu et al. 2021, arXiv 2106.09685, and its relatives), with
// three ways to fold B: plain, with gains, and beside a snapshot of A and B (Delta-LoRA, arXiv 2309.02411; PiSSA, arXiv
// 2404.02948).
#pragma once

#include "adapters/term.h"

namespace lowrank {

/// out [rows, active] = B with every factor folded in; see Fold.
void fold_slot(Run& run, const AdapterRun& adapter, const LowRankSlot& slot, int64_t rows, float weight,
               Ptr<float> gains, Ptr<float> out);

class LowRank final : public Term {
 public:
  /// @param index of the slot in the adapter's description
  LowRank(const AdapterSpec& spec, int index, const Site& site);
  std::vector<int> trained() const override;
  int64_t hidden_cols(const PlanOptions&) const override { return slot_.rank; }
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const override;
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct LowRankSteps;
  bool drops(const Run& run) const { return slot_.dropout > 0 && run.training(); }
  bool snapshot_acts(const Run& run, const AdapterRun& adapter) const;
  Factor factor_a(const AdapterRun& adapter) const;
  Factor snapshot_a(const AdapterRun& adapter, int64_t rows) const;
  void fold_snapshot(Run& run, const AdapterRun& adapter, float weight, Ptr<float> gains, Ptr<float> out) const;
  Matrix drop(Run& run, const Matrix& x, const Matrix& out) const;
  void hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& dropped, const Matrix& h) const;
  void run_hidden(Run& run, const Step& s) const;
  void run_gradient(Run& run, const Step& s) const;

  const AdapterSpec& spec_;
  const LowRankSlot& slot_;
  const int index_;
  const Site site_;
};

}  // namespace lowrank
