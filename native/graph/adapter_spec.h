// An adapter as data: its parameters, what is computed with them and where, and how they train. No arrays: those are
// `Adapter` (adapters/adapter.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank {

enum class OptimizerKind : uint8_t { adamw, sgd, lion, adafactor };

/// Which state is kept, and how.
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

/// What training leaves out of an adapter's change of a weight, drawn anew for each micro-step.
struct DeltaDropout {
  float rows = 0;        // probability that an output row of the change is zero
  float all = 0;         // that the whole change is
  bool rescale = false;  // divides the rows that stay by their share

  bool any() const { return rows > 0 || all > 0; }
};

/// y += scale * diag(b_gain) B diag(d * mask) A x at one linear; -1 means a factor of ones. A frozen A may be wider and
/// a frozen B taller than the linear: its first columns or rows are used, so that layers of any shape share one.
/// With a2 and b2 the change is a Hadamard product of two, (b a) . (b2 a2), which is B A of rank r1 r2: row i r2 + j of A
/// is row i of a times row j of a2, element by element, and the columns of B are made so from those of b and b2.
///
/// With a magnitude m the linear is y = diag(m / c) (W + delta) x instead, delta being the matrix above and c_i =
/// ||W_i + delta_i|| (DoRA, arXiv 2402.09353); c counts as a constant in the backward pass.
///
/// At an embedding x is the one-hot vector of a token: A is [rank, vocabulary], of which each token has a column, and B
/// [dimension, rank]. Such a slot has A and B alone, and drops nothing (adapters/embedding_term.h).
struct LowRankSlot {
  std::string target;
  bool embedding = false;
  int64_t rank = 0;
  float scale = 1;       // with all ranks in use
  float rank_power = 0;  // with the first `active` ranks: scale * (rank / active)^rank_power
  float dropout = 0;
  int a = -1;       // [rank, in]
  int b = -1;       // [out, rank]
  int d = -1;       // [1, rank]
  int mask = -1;    // [1, rank], never trained
  int b_gain = -1;  // [1, out]
  int a2 = -1;      // [r2, in], where rank is r1 r2 and a is [r1, in]
  int b2 = -1;      // [out, r2]
  DeltaDropout delta_dropout;
  int magnitude = -1;  // [1, out]
  int64_t norms = 0;   // rows from the start of the adapter's row norms (filled by check_adapter)
  // A frozen pair beside B A, of the same shapes: scale ((1 + ratio) B A - ratio B* A*), or scale (B A - ratio B* A*) of
  // one that subtracts, while the ratio is not 0. The gradients of A and B are those of scale B A.
  int snapshot_a = -1;      // A*, [rank, in]
  int snapshot_b = -1;      // B*, [out, rank]
  int snapshot_ratio = -1;  // [1, 1]
  bool subtracts = false;

  /// Whether A and B are all that it has.
  bool plain() const {
    return !has_gains() && !paired() && !has_snapshot() && magnitude < 0 && !delta_dropout.any() && dropout == 0;
  }
  bool has_snapshot() const { return snapshot_a >= 0; }
  /// Columns of the folded matrix: those of B, and those of B*.
  int64_t folded_cols() const { return has_snapshot() ? 2 * rank : rank; }
  bool paired() const { return a2 >= 0; }
  bool has_gains() const { return d >= 0 || mask >= 0 || b_gain >= 0; }
  float scale_at(int64_t active) const;
  /// How many of `wanted` ranks this slot has; 0 wants all.
  /// Throws Error("CONFIG") where only the whole rank makes sense.
  int64_t ranks(int64_t wanted) const;
};

/// y += scale * (C (x) D) x at one linear of [l k, p q]; -1 means that there is no second factor.
struct KroneckerSlot {
  std::string target;
  float scale = 1;
  int c = -1;   // [l, p], or [l, rank] before c2
  int c2 = -1;  // [rank, p]
  int d = -1;   // [k, q], or [k, rank] before d2
  int d2 = -1;  // [rank, q]
  DeltaDropout delta_dropout;
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

/// Whose contributions private training clips, one by one (optim/private_sum.h): those of each example, or of each client.
enum class Privacy : uint8_t { none, examples, clients };

struct AdapterSpec {
  std::vector<ParameterSpec> parameters;
  std::vector<LowRankSlot> slots;
  std::vector<KroneckerSlot> kroneckers;
  std::vector<WeightCopy> copies;
  std::vector<GradientProjection> projections;
  std::vector<TripletSpec> triplets;
  Privacy privacy = Privacy::none;
  bool trainable = false;
  StateSpec state;  // of the optimizer that trains it

  // Filled by `check_adapter`.
  int64_t elements = 0;
  int64_t trained_elements = 0;
  int64_t norm_rows = 0;  // rows of all slots with a magnitude
  int64_t tracked_elements = 0;  // in triplets

  bool trains(int parameter) const { return trainable && parameter >= 0 && parameters[parameter].trained; }
  /// Whether a micro-batch adds to a gradient without telling its sequences apart, so that the gradients of examples are
  /// known only if they run one at a time: weights of the base that train, and factors at an embedding.
  bool blends_examples() const;
  /// Bytes of the gradients that the adapter keeps from step to step.
  int64_t gradient_bytes() const {
    return trainable && !state.in_backward ? trained_elements * static_cast<int64_t>(sizeof(float)) : 0;
  }
  bool by_example() const { return trainable && privacy == Privacy::examples; }
  /// Bytes of the sum of clipped contributions, in double precision.
  int64_t private_sum_bytes() const {
    return trainable && privacy != Privacy::none ? trained_elements * static_cast<int64_t>(sizeof(double)) : 0;
  }
  /// Whether a round of clients keeps the values and the state that it began with.
  bool keeps_start() const { return trainable && privacy == Privacy::clients; }
  /// Bytes of the row norms that slots with a magnitude keep: a double and a float a row.
  int64_t norm_bytes() const { return norm_rows * static_cast<int64_t>(sizeof(double) + sizeof(float)); }
};

}  // namespace lowrank
