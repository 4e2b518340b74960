// LoHa's pairs of factors (FedPara, Hyeon-Woo et al. 2021, arXiv 2108.06098): the Hadamard product of two low-rank
// matrices is one low-rank matrix whose factors are face-splitting products of theirs,
//   (b a) . (b2 a2) = B A,  B[o, i r2 + j] = b[o, i] b2[o, j],  A[i r2 + j, c] = a[i, c] a2[j, c].
// A training step multiplies by B and A, or makes the change of the weight and multiplies by that: whichever takes
// fewer multiplications.
#pragma once

#include "adapters/term.h"

namespace lowrank {

class PairTerm final : public Term {
 public:
  static constexpr const char* kKind = "pair";
  static constexpr Op kAt = Op::linear;
  PairTerm(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override;
  std::vector<int> trained() const override;
  int64_t hidden_cols(const PlanOptions& options) const override { return forms(options) ? 0 : rank_; }
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run& run, AdapterRun& adapter, InputGradient& gradient) const override;
  std::vector<float> folded(const Adapter& adapter) const override;
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct PairSteps;
  using Role = HiddenRole;
  bool forms(const PlanOptions& options) const;
  void expect_whole(int64_t wanted) const;
  int64_t first_rank() const { return parameter(a_).rows; }
  int64_t second_rank() const { return parameter(a2_).rows; }
  Pair pair(const AdapterRun& adapter) const;
  Factor build_a(Run& run, const AdapterRun& adapter) const;
  Factor form(Run& run, const AdapterRun& adapter) const;
  void hidden(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& h) const;
  void run_hidden(Run& run, const Step& s) const;
  void run_gradient(Run& run, const Step& s) const;
  void run_formed_gradient(Run& run, const Step& s) const;

  int64_t rank_;  // r1 r2
  float scale_;
  int a_, b_, a2_, b2_;  // [r1, in], [out, r1], [r2, in], [out, r2]
  DeltaDropout dropout_;
};

}  // namespace lowrank
