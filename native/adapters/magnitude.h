// Row magnitudes of an adapted linear layer (DoRA, Liu et al. 2024, arXiv 2402.09353): y = diag(m / c) (W + delta) x
// with c_i = ||W_i + delta_i||, which is constant in the backward pass. A magnitude is not a term: it also scales the
// base's product, so it wraps a linear layer with its terms.
#pragma once

#include "adapters/term.h"
#include "core/pool.h"
#include "quant/weight.h"

namespace lowrank {

/// True if an adapter scales the rows of a node.
bool has_magnitude(const std::vector<AdapterSite>& sites);
/// True if a site with a magnitude has input dropout. The base's product then also uses the dropped-out input, so that
/// the scaled and the dropped parts are consistent (as in PEFT and the authors' code).
bool drops_base(const AdapterSite& site);

/// Emits the step that updates the cached row norms.
void plan_norms(Planner& plan, int node);
/// The buffer of a linear layer's output before row scaling. @param y the output buffer
int unscaled_output(Planner& plan, int node, Phase phase, int y);
/// True if the gradient of a layer's magnitude needs only its scaled output, which is then kept.
bool keeps_scaled_output(const Planner& plan, int node);
/// Emits the magnitude's gradient and returns the buffer of the gradient at the unscaled output.
int magnitude_backward(Planner& plan, int node, int dy);

/// The combined row gains of all adapters with a magnitude at a linear layer, during a run.
class RowScale {
 public:
  /// Allocates and computes the gains.
  RowScale(Run& run, int node);
  /// Row gains of an adapter's own update relative to those of the base; null if equal. Allocates workspace.
  Ptr<float> over(Run& run, const AdapterRun& adapter, int node) const;
  /// Gives the product the buffer of unscaled rows as its output. With input dropout the base also multiplies the
  /// dropped-out input, and the dropped part is added unscaled: y = gain * (xd W^T + h B^T) + (x - xd) W^T (+ bias) (+
  /// residual).
  void begin(Run& run, Product& product);
  /// y = gain * (the product) (+ bias) (+ residual).
  void finish(Run& run, const Product& product) const;

 private:
  Ptr<float> bias_;
  Matrix rest_;  // added to the scaled rows
  Ptr<float> gain_;
  int changes_ = 0;  // number of terms at the node that are scaled
};

/// Initializes a magnitude to the row norms of the weight including the term's update, so that the layer's output is
/// unchanged by it. @param out [out]
void fill_magnitude(Pool& pool, const Adapter& adapter, const Term& scaled, const WeightView& w, float* out);

/// The base's share in the part of an input gradient kept separate by a mask: dy diag(gain - 1) W.
Segment masked_base(Run& run, const GradientTerm& share);

}  // namespace lowrank
