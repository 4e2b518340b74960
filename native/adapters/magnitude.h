// Magnitudes of the rows of an adapted linear (DoRA, Liu et al. 2024, arXiv 2402.09353): y = diag(m / c) (W + delta) x
// with c_i = ||W_i + delta_i||, which counts as a constant in the backward pass. A magnitude is no term: it scales the
// base's product too, and is put around a linear with its terms.
#pragma once

#include "adapters/term.h"
#include "core/pool.h"
#include "quant/weight.h"

namespace lowrank {

/// True if an adapter scales the rows of a node.
bool has_magnitude(const std::vector<AdapterSite>& sites);
/// True if a site with a magnitude drops inputs. The base's product is then taken of the dropped input as well, so that
/// the scaled and the dropped part belong together (as in PEFT and the authors' code).
bool drops_base(const AdapterSite& site);

/// Emits the step that brings the norms of the rows up to date.
void plan_norms(Planner& plan, int node);
/// The buffer of a linear's output before its rows are scaled. @param y that of the output
int unscaled_output(Planner& plan, int node, Phase phase, int y);
/// True if the gradient of a linear's magnitude needs only its scaled output, which is then kept.
bool keeps_scaled_output(const Planner& plan, int node);
/// Emits the gradient of the magnitude and returns the buffer of the gradient behind the gains.
int magnitude_backward(Planner& plan, int node, int dy);

/// The gains of a linear's rows in a run, of all adapters with a magnitude.
class RowScale {
 public:
  /// Takes room for the gains, and computes them.
  RowScale(Run& run, int node);
  /// The gains of the rows of an adapter's own change over those of the base; null where they are the same. Takes room.
  Ptr<float> over(Run& run, const AdapterRun& adapter, int node) const;
  /// y = gain * (the segments) (+ bias) (+ residual). Where the input is dropped the base multiplies the dropped one
  /// too, and the dropped part is added beside it, unscaled: y = gain * (xd W^T + h B^T) + (x - xd) W^T (+ bias) (+
  /// residual).
  void finish(Run& run, Product& product) const;

 private:
  Ptr<float> gain_;
  int changes_ = 0;  // terms at the node that are scaled with it
};

/// Fills a magnitude with the norms of the rows of the weight with the term's change, which begin it: the linear gives what
/// it gives without one. @param out [out]
void fill_magnitude(Pool& pool, const Adapter& adapter, const Term& scaled, const WeightView& w, float* out);

/// The base's share in the part of an input gradient that a mask keeps apart: dy diag(gain - 1) W.
Segment masked_base(Run& run, const GradientTerm& share);

}  // namespace lowrank
