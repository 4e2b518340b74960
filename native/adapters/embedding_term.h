// y = E[id] + scale * A[:, id]^T B^T: LoRA on an embedding (arXiv 2106.09685, as in PEFT). The product with a one-hot
// vector is a lookup of columns of A; its backward pass adds to those columns.
#pragma once

#include "adapters/term.h"

namespace lowrank {

class EmbeddingTerm final : public Term {
 public:
  static constexpr const char* kKind = "embedding";
  static constexpr Op kAt = Op::embedding;
  EmbeddingTerm(const AdapterSpec& spec, int index, const Site& site);
  void check() const override;
  void check_site(const std::string& what) const override;
  TermFacts facts() const override;
  std::vector<int> trained() const override;
  int64_t hidden_cols(const PlanOptions&) const override { return 0; }
  /// Adds to the table rows already in `product.to`.
  void forward(Run& run, AdapterRun& adapter, Product& product) const override;
  void backward(Planner& plan, int dy, GradientTerm& share) const override;
  void input_gradient(Run&, AdapterRun&, InputGradient&) const override {}
  std::vector<float> folded(const Adapter& adapter) const override { return folded(adapter, ranks_.all, 1); }
  std::unique_ptr<DeltaRows> delta_rows(const Adapter& adapter, float counts, int64_t rank) const override;

 private:
  friend struct EmbeddingSteps;
  /// Buffers of its backward step.
  enum class Role : uint8_t {
    ids = slot::x,  // of tokens
    dy = slot::dy,
  };
  Matrix look_up(Run& run, const AdapterRun& adapter, int64_t active) const;
  Factor fold(Run& run, const AdapterRun& adapter, int64_t active, float weight) const;
  std::vector<float> folded(const Adapter& adapter, int64_t active, float weight) const;
  void run_gradient(Run& run, const Step& s) const;

  Ranks ranks_;
  int a_, b_;  // [rank, vocabulary], with one column per token; [dimension, rank]
};

}  // namespace lowrank
