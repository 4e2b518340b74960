// An adapter as data: its parameters, the computations that use them, and how they are trained. The arrays are in
// `Adapter` (adapters/adapter.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/boundary.h"

namespace lowrank {

/// Properties of a term needed by other code; defined in the term's own file.
struct TermFacts {
  int64_t rank = 0;  // width of the operand that its last factor multiplies; 0: none
  int a = -1;        // row j of `a` and column j of `b` are rank j, which may train alone; -1: ranks train together
  int b = -1;
  int magnitude = -1;            // [1, out], scales the rows of the whole
  bool blends_examples = false;  // its gradients are computed for a micro-batch as a whole
};

struct AdapterSpec : AdapterParts {
  bool trainable = false;
  StateSpec state;  // of its optimizer

  // Filled by `check_adapter`.
  int64_t elements = 0;
  int64_t trained_elements = 0;
  std::vector<int64_t> offsets;  // by parameter: elements from the start of the value span
  std::vector<int64_t> tracked;  // the same in the importance spans; -1: not in a triplet
  std::vector<TermFacts> facts;  // by term
  int64_t norm_rows = 0;         // of all terms with a magnitude
  int64_t tracked_elements = 0;  // in triplets

  bool trains(int parameter) const { return trainable && parameter >= 0 && parameters[parameter].trained; }
  /// True if a gradient is computed for a micro-batch without separating its sequences, so per-example gradients need
  /// one sequence at a time: for trained base weights, and factors at an embedding.
  bool blends_examples() const {
    return !copies.empty() ||
           std::any_of(facts.begin(), facts.end(), [](const TermFacts& f) { return f.blends_examples; });
  }
  /// Bytes of the gradients that the adapter keeps between steps.
  int64_t gradient_bytes() const {
    return trainable && !state.in_backward ? trained_elements * static_cast<int64_t>(sizeof(float)) : 0;
  }
  bool by_example() const { return trainable && privacy == Privacy::examples; }
  /// Bytes of the sum of clipped contributions, in double precision.
  int64_t private_sum_bytes() const {
    return trainable && privacy != Privacy::none ? trained_elements * static_cast<int64_t>(sizeof(double)) : 0;
  }
  /// True if a round over clients keeps its initial values and state.
  bool keeps_start() const { return trainable && privacy == Privacy::clients; }
  /// Bytes of cached row norms for terms with a magnitude: a double and a float per row.
  int64_t norm_bytes() const { return norm_rows * static_cast<int64_t>(sizeof(double) + sizeof(float)); }
};

}  // namespace lowrank
