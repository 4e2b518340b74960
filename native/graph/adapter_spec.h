// An adapter as data: its parameters, what is computed with them and where, and how they train. No arrays: those are
// `Adapter` (adapters/adapter.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/lists.h"

namespace lowrank {

/// Kind and storage of the state.
struct StateSpec {
  OptimizerKind kind = OptimizerKind::adamw;
  bool momentum = true;    // of SGD: whether it has one
  bool eight_bit = false;  // of AdamW and Lion
  int64_t resident = -1;   // bytes of it that may be in memory, the page cache included; -1: all
  std::string folder;      // of the file for the rest
  // Each parameter is updated in the backward pass, once its gradient is whole: gradients lie in the arena of the plan
  // for as long as they are needed, and the adapter has none of its own.
  bool in_backward = false;

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
};

struct ParameterSpec {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  bool trained = false;
  int group = 0;       // whose optimizer settings it has
  int64_t offset = 0;  // elements from the start of the value span (filled by check_adapter)
  int64_t tracked = -1;  // the same from the start of the importance spans; -1: not in a triplet
};

/// A term as data: one kind of maths at one linear or embedding. Its room (adapters/) names the roles of parameters and
/// the numbers, and refuses what it does not know.
struct TermSpec {
  std::string kind;
  std::string target;  // path of the node
  std::map<std::string, int> parameters;  // by role
  std::map<std::string, double> numbers;  // by name
};

/// Properties of a term that other code asks for; the term's own file defines them.
struct TermFacts {
  int64_t rank = 0;   // width of the operand that it multiplies by its last factor; 0: it has none
  int a = -1;         // row j of `a` and column j of `b` are rank j, which may train alone; -1: ranks train together
  int b = -1;
  int magnitude = -1;            // [1, out] that scales the rows of the whole
  bool blends_examples = false;  // its gradients are made for a micro-batch as a whole
};

/// A copy of a base weight, of its shape, that stands in for it while the adapter is on: full fine-tuning, and modules
/// that are trained beside a low-rank adapter.
struct WeightCopy {
  std::string weight;
  int parameter = -1;
};

/// The gradient of B is projected by A's rows before every update (`project_gradient`); A is frozen.
struct GradientProjection {
  int a = -1;  // [rank, in]
  int b = -1;  // [out, rank]
  float scale = 1;
};

/// Rows of A with their gains and columns of B, whose importance is followed from update to update, and which are kept
/// near orthogonal while they train (optim/triplets.h). All three train, and belong to no other triplet.
struct TripletSpec {
  int a = -1;  // [rank, in]
  int d = -1;  // [1, rank]
  int b = -1;  // [out, rank]
  float beta1 = 0, beta2 = 0;  // of the moving means of sensitivity and uncertainty
  float orthogonal = 0;        // weight of ||A A^T - I|| + ||B^T B - I|| in what is trained; 0 is off
};

struct AdapterSpec {
  std::vector<ParameterSpec> parameters;
  std::vector<TermSpec> terms;
  std::vector<WeightCopy> copies;
  std::vector<GradientProjection> projections;
  std::vector<TripletSpec> triplets;
  Privacy privacy = Privacy::none;
  bool trainable = false;
  StateSpec state;  // of the optimizer that trains it

  // Filled by `check_adapter`.
  int64_t elements = 0;
  int64_t trained_elements = 0;
  std::vector<TermFacts> facts;  // by term
  int64_t norm_rows = 0;         // of all terms with a magnitude
  int64_t tracked_elements = 0;  // in triplets

  bool trains(int parameter) const { return trainable && parameter >= 0 && parameters[parameter].trained; }
  /// True if a micro-batch adds to a gradient without telling its sequences apart, so that the gradients of examples are
  /// known only if they run one at a time: weights of the base that train, and factors at an embedding.
  bool blends_examples() const {
    return !copies.empty() || std::any_of(facts.begin(), facts.end(), [](const TermFacts& f) { return f.blends_examples; });
  }
  /// Bytes of the gradients that the adapter keeps from step to step.
  int64_t gradient_bytes() const {
    return trainable && !state.in_backward ? trained_elements * static_cast<int64_t>(sizeof(float)) : 0;
  }
  bool by_example() const { return trainable && privacy == Privacy::examples; }
  /// Bytes of the sum of clipped contributions, in double precision.
  int64_t private_sum_bytes() const {
    return trainable && privacy != Privacy::none ? trained_elements * static_cast<int64_t>(sizeof(double)) : 0;
  }
  /// True if a round of clients keeps its initial values and state.
  bool keeps_start() const { return trainable && privacy == Privacy::clients; }
  /// Bytes of the row norms that terms with a magnitude keep: a double and a float a row.
  int64_t norm_bytes() const { return norm_rows * static_cast<int64_t>(sizeof(double) + sizeof(float)); }
};

}  // namespace lowrank
