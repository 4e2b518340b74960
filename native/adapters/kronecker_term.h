// LoKr (LyCORIS, Yeh et al. 2023, arXiv 2309.14859): the weight update is a Kronecker product C (x) D, whose sides may
// each be a product of two factors. D's factors stay separate where they multiply activations; C is small and computed
// once per step.
#pragma once

#include "adapters/term.h"

namespace lowrank {

class KroneckerTerm final : public Term {
 public:
  static constexpr const char* kKind = "kronecker";
  static constexpr Op kAt = Op::linear;
  KroneckerTerm(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override;
  std::vector<int> trained() const override;
  int64_t hidden_cols(const PlanOptions&) const override { return 0; }
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run&, AdapterRun&, InputGradient&) const override {}  // added as an fp32 residual
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct KroneckerSteps;
  /// Buffers of its backward step.
  enum class Role : uint8_t {
    x = slot::x,
    dy = slot::dy,
    dx = slot::dx,  // f32: its part of the gradient of x
  };
  int64_t l() const { return parameter(c_).rows; }
  int64_t p() const { return parameter(c2_ < 0 ? c_ : c2_).cols; }
  int64_t k() const { return parameter(d_).rows; }
  int64_t q() const { return parameter(d2_ < 0 ? d_ : d2_).cols; }
  int64_t rank_of_d() const { return d2_ < 0 ? 0 : parameter(d_).cols; }
  KroneckerPair factors(Run& run, const AdapterRun& adapter) const;
  void run_gradient(Run& run, const Step& s) const;

  float scale_;
  int c_, c2_;  // [l, p], or [l, rank] and [rank, p]; -1: no second factor
  int d_, d2_;  // [k, q], or [k, rank] and [rank, q]
  DeltaDropout dropout_;
};

}  // namespace lowrank
