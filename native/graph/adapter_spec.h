// An adapter as data: its parameters, the computations that use them, and how they are trained. The arrays are in
// `Adapter` (adapters/adapter.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/lists.h"

namespace lowrank {

/// Kind and storage of the optimizer state.
struct StateSpec {
  OptimizerKind kind = OptimizerKind::adamw;
  bool momentum = true;    // SGD only: whether it has momentum
  bool eight_bit = false;  // AdamW and Lion only
  int64_t resident = -1;   // maximum bytes in memory, including the page cache; -1: all
  std::string folder;      // for the file with the rest
  // Each parameter is updated in the backward pass as soon as its gradient is complete: gradients live in the plan's
  // arena while needed, and the adapter has none of its own.
  bool in_backward = false;

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
};

struct ParameterSpec {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  bool trained = false;
  int group = 0;         // index of its optimizer settings
  int64_t offset = 0;    // elements from the start of the value span (filled by check_adapter)
  int64_t tracked = -1;  // the same in the importance spans; -1: not in a triplet
};

/// A term as data: one computation at one linear layer or embedding. Its implementation (adapters/) names the parameter
/// roles and the numbers, and rejects unknown ones.
struct TermSpec {
  std::string kind;
  std::string target;                     // path of the node
  std::map<std::string, int> parameters;  // by role
  std::map<std::string, double> numbers;  // by name
};

/// Properties of a term needed by other code; defined in the term's own file.
struct TermFacts {
  int64_t rank = 0;  // width of the operand that its last factor multiplies; 0: none
  int a = -1;        // row j of `a` and column j of `b` are rank j, which may train alone; -1: ranks train together
  int b = -1;
  int magnitude = -1;            // [1, out], scales the rows of the whole
  bool blends_examples = false;  // its gradients are computed for a micro-batch as a whole
};

/// A copy of a base weight that replaces it while the adapter is active: for full fine-tuning, and for modules trained
/// alongside a low-rank adapter.
struct WeightCopy {
  std::string weight;
  int parameter = -1;
};

/// The gradient of B is projected with A's rows before every update (`project_gradient`); A is frozen.
struct GradientProjection {
  int a = -1;  // [rank, in]
  int b = -1;  // [out, rank]
  float scale = 1;
};

/// Rows of A with their gains and columns of B, whose importance is tracked across updates, and which are kept nearly
/// orthogonal during training (optim/triplets.h). All three are trained, and belong to only one triplet.
struct TripletSpec {
  int a = -1;                  // [rank, in]
  int d = -1;                  // [1, rank]
  int b = -1;                  // [out, rank]
  float beta1 = 0, beta2 = 0;  // decays of the moving averages of sensitivity and uncertainty
  float orthogonal = 0;        // weight of ||A A^T - I|| + ||B^T B - I|| in the loss; 0 turns it off
};

struct AdapterSpec {
  std::vector<ParameterSpec> parameters;
  std::vector<TermSpec> terms;
  std::vector<WeightCopy> copies;
  std::vector<GradientProjection> projections;
  std::vector<TripletSpec> triplets;
  Privacy privacy = Privacy::none;
  bool trainable = false;
  StateSpec state;  // of its optimizer

  // Filled by `check_adapter`.
  int64_t elements = 0;
  int64_t trained_elements = 0;
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
