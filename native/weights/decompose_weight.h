// Factors of a loaded weight, of its quantization error, or of an adapter's update: initial values of adapters, and
// conversion of adapters to an approximating LoRA. Holds one such matrix in fp32 while it runs.
#pragma once

#include <optional>
#include <string>

#include "adapters/decompose.h"
#include "core/lists.h"
#include "weights/read_weight.h"

namespace lowrank {

struct DecomposeOptions {
  FactorForm form = FactorForm::svd;
  SingularOptions singular;  // for QR only the rank is used
  /// Original of the weight: decomposes the difference between it and the stored weight.
  std::optional<TensorSource> source;
  /// Node whose adapter update is decomposed; empty: decomposes the weight.
  std::string target;
};

/// Throws Error as `largest_singular`, and as `load_weight` or `read_delta` if these are used.
Decomposition decompose_weight(Pool& pool, const Weight& weight, const std::string& name,
                               const std::vector<WeightedAdapter>& adapters, const DecomposeOptions& options);

}  // namespace lowrank
