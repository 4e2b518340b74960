// HiRA (Huang et al. 2025, OpenReview TwJrTz9cRS; PEFT's HiraModel): y = W x + (W . B A) x. The change of the weight is
// its Hadamard product with a low-rank matrix, and so of a higher rank.
#pragma once

#include "adapters/term.h"

namespace lowrank {

class HadamardTerm final : public Term {
 public:
  static constexpr const char* kKind = "hadamard";
  static constexpr Op kAt = Op::linear;
  HadamardTerm(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override { return {}; }
  std::vector<int> trained() const override { return trained_of({a_, b_}); }
  int64_t hidden_cols(const PlanOptions&) const override { return 0; }
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const override;
  void finish_input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient, const Matrix& dx) const override;
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct HadamardSteps;
  /// Buffers of its backward step.
  enum class Role : uint8_t {
    x = slot::x,
    dy = slot::dy,
  };
  int64_t rank() const { return parameter(a_).rows; }
  bool drops(const Run& run) const { return dropout_ > 0 && run.training(); }
  /// True if the weight and its change are one factor: in 16 bits, rounding their sum would lose much of the change.
  bool joins_weight(const Run& run) const {
    return run.precision() == Precision::f32 && run.adapters.size() == 1 && !drops(run);
  }
  /// W . (own + B A)
  Factor form(Run& run, const AdapterRun& adapter, float own) const;
  void run_gradient(Run& run, const Step& s) const;

  int a_, b_;  // [rank, in], [out, rank]
  float dropout_;
};

}  // namespace lowrank
