// LoKr's factors (LyCORIS, arXiv 2309.14859): the change of a weight is a Kronecker product C (x) D, of which each side
// may be a product of two factors. D's stay apart where they multiply activations; C is small and made once per step.
#pragma once

#include "adapters/adapter.h"
#include "core/factors.h"

namespace lowrank {

KroneckerShape kronecker_shape(const AdapterSpec& spec, const KroneckerSlot& slot);

/// Throws Error("SHAPE") for factors that do not fit each other.
void check_kronecker(const AdapterSpec& spec, const KroneckerSlot& slot);

/// C [l, p]: the parameter, or the product of its two factors, made at `room`.
const float* kronecker_c(const Adapter& adapter, const KroneckerSlot& slot, float* room);

/// Rows of scale * C (x) D for merging.
class KroneckerRows {
 public:
  KroneckerRows(const Adapter& adapter, const KroneckerSlot& slot);
  /// Adds weight times row `row` to out [in].
  void add_row(int64_t row, float weight, float* out) const;

 private:
  KroneckerShape shape_;
  float scale_;
  std::vector<float> c_, d_;
};

}  // namespace lowrank
