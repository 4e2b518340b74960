// Factors of a loaded weight, of what its format lost of it, or of what an adapter changes of it: start values of
// adapters, and adapters in the form of a LoRA that comes near them. Holds one such matrix in fp32 while it works.
#pragma once

#include <optional>
#include <string>

#include "adapters/decompose.h"
#include "core/lists.h"
#include "weights/read_weight.h"

namespace lowrank {

struct DecomposeOptions {
  FactorForm form = FactorForm::svd;
  SingularOptions singular;  // of QR the rank alone counts
  /// Source of the weight: the difference between the source and the format is decomposed.
  std::optional<TensorSource> source;
  /// Node whose adapter change is decomposed; empty: the weight is decomposed.
  std::string target;
};

/// Throws Error as `largest_singular`, and as `load_weight` or `read_delta` where those are asked for.
Factors decompose_weight(Pool& pool, const Weight& weight, const std::string& name,
                         const std::vector<WeightedAdapter>& adapters, const DecomposeOptions& options);

}  // namespace lowrank
