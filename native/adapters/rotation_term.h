// OFT in its input-centric form (Qiu et al. 2025, arXiv 2506.19847): the base multiplies a rotated input, y = W (x R).
// R is block-diagonal, each block nearly orthogonal as a Cayley-Neumann series of a trained skew-symmetric matrix.
// Unlike other terms, it transforms the input of the base's product instead of adding to it, and its weight update
// depends on the weight.
#pragma once

#include "adapters/term.h"

namespace lowrank {

class RotationTerm final : public Term {
 public:
  static constexpr const char* kKind = "rotation";
  static constexpr Op kAt = Op::linear;
  RotationTerm(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override { return {}; }
  std::vector<int> trained() const override { return trained_of({skew_}); }
  int64_t hidden_cols(const PlanOptions&) const override { return 0; }
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run&, AdapterRun&, InputGradient&) const override {}  // fully handled as an fp32 part
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct RotationSteps;
  /// Buffers of its backward step.
  enum class Role : uint8_t {
    x = slot::x,
    dy = slot::dy,
    dx = slot::dx,  // f32: its part of the gradient of x
  };
  Blocks shape() const { return {parameter(skew_).rows, size_}; }
  /// out = addend + the adapter's weight times x D.
  void turn(Run& run, const AdapterRun& adapter, const Matrix& x, const Matrix& addend, const Matrix& out) const;
  /// D in the workspace of the step, [blocks, size, size]; with `back`, the transpose of I + D.
  Ptr<float> blocks(Run& run, const AdapterRun& adapter, bool back) const;
  void run_gradient(Run& run, const Step& s) const;

  int64_t size_;
  int terms_;
  int skew_;  // [blocks, size (size - 1) / 2], or one row shared by all blocks
};

}  // namespace lowrank
