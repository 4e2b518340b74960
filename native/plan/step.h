// A step of a plan: one entry in the list that a session executes. Everything other code needs to know about it is
// stored as data by the operation that created it, so nothing switches over kinds of steps.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/lists.h"

namespace lowrank {

class Run;
class Term;
struct Step;

/// How a step computes a call whose rows are of several texts, so that each has the bits that it has alone.
enum class RowsOf : uint8_t {
  all,   // at once: no row knows of another
  text,  // those of one text at a time, with its adapters and its cache, unless the step is computed by row
};

/// Places of a step's buffers, as a plan's text names them. What lies in a place differs from one operation to another,
/// so each operation names the places that it uses by an enum of its own: the roles of its steps.
namespace slot {
enum Slot : uint8_t { x, x2, y, aux, residual, q, k, v, dy, dx, dq, dk, dv, tail, count };
inline constexpr std::array<const char*, count> kNames{"x", "x2", "y",  "aux", "residual", "q",  "k",
                                                       "v", "dy", "dx", "dq",  "dk",       "dv", "tail"};
}  // namespace slot

/// Its address identifies an enum of roles. Not constant, since a linker may fold equal constants into one.
template <class Role>
inline char role_type = 0;
template <class Role>
inline constexpr const char* roles = &role_type<Role>;

/// Data shared by all steps of one kind. Its address identifies the kind.
struct StepKind {
  const char* name;                         // for dumps, times, timelines, and LOWRANK_CHECK
  const char* roles;                        // the enum that names the buffers of its steps
  void (*run)(Run& run, const Step& step);  // computes; while planning, only counts
  bool once = false;                        // changes more than its buffers, so that no check may repeat it
  RowsOf rows = RowsOf::all;
};

// Kinds that belong to no operation.
extern const StepKind kZero;     // zeroed = 0, or the gradient of `parameter` if set
extern const StepKind kUpdate;   // the optimizer updates `parameter` with its complete gradient
extern const StepKind kOffload;  // offloaded -> the file
extern const StepKind kReload;   // the file -> reloaded

/// Buffers of these.
enum class PlanRole : uint8_t {
  zeroed = slot::dx,
  gradient = slot::dy,
  offloaded = slot::x,
  reloaded = slot::y,
};

/// One linear layer's contribution to an input gradient: dx += dy W + dh A.
struct GradientTerm {
  int node = -1;
  int dy = -1;  // -1: its contribution was computed separately
  int dh = -1;  // [T, rank], or -1 if no term has such an operand
};

struct Step {
  Step() { buffers.fill(-1); }

  const StepKind* kind = nullptr;
  Phase phase = Phase::forward;
  int node = -1;
  std::array<int, slot::count> buffers;  // ids; -1: none
  int workspace = -1;
  int64_t offset = -1;  // in the file of offloaded activations
  int parameter = -1;   // of the trained adapter: the one to update, or whose gradient starts at zero
  bool accumulate = false;
  bool by_row = false;         // each row may have adapters of its own
  const Term* term = nullptr;  // the term it belongs to
  std::vector<GradientTerm> terms;
  std::vector<Step> group;  // linears that read x and are computed as one

  // Facts about the step.
  std::vector<int> writes;     // buffers it writes, except workspace, for LOWRANK_CHECK
  std::vector<int> by_rank;    // those of them with a column for each rank in use
  std::vector<int> weights;    // base weights it multiplies with, which are then in memory as a whole
  int sliced_weight = -1;      // base weight read one slice at a time per chunk of head rows, from the last one on
  bool slices_again = false;   // reads them from the first one on, too
  bool losses = false;         // produces the losses of the head rows
  bool weighted = false;       // needs head row weights that depend on the losses
  std::vector<int> touches;    // trained parameters whose values or gradients it may use
  std::vector<int> adds;       // those of them whose gradients it adds to
  std::vector<int> gradients;  // buffers of these gradients, if in the arena
  double multiply_adds = 0;    // with base weights, at capacity; excludes adapters and attention

  /// True if these are the roles of its kind.
  template <class Role>
  bool has() const {
    return kind->roles == roles<Role>;
  }
  /// The buffer with a role, or -1. Throws Error("INTERNAL") for a role of another kind.
  template <class Role>
  int& operator[](Role role) {
    expect_roles<Role>();
    return buffers[static_cast<size_t>(role)];
  }
  template <class Role>
  int operator[](Role role) const {
    expect_roles<Role>();
    return buffers[static_cast<size_t>(role)];
  }

  template <class Visit>
  void each_buffer(Visit&& visit) const {
    for (const int id : buffers)
      if (id >= 0) visit(id);
    if (workspace >= 0) visit(workspace);
    for (const GradientTerm& term : terms) {
      visit(term.dy);
      if (term.dh >= 0) visit(term.dh);
    }
    for (const Step& step : group) step.each_buffer(visit);
    for (const int id : gradients) visit(id);
  }
  template <class Visit>
  void each_written(Visit&& visit) const {
    for (const int id : writes) visit(id);
    for (const int id : gradients) visit(id);
  }

 private:
  template <class Role>
  void expect_roles() const {
    if (!has<Role>()) fail("INTERNAL", "a step of ", kind->name, " is asked for a buffer by a role of another kind");
  }
};

/// The steps that are computed as one.
inline std::span<const Step> members_of(const Step& step) {
  return step.group.empty() ? std::span(&step, 1) : std::span(step.group);
}

}  // namespace lowrank
