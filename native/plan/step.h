// A step of a plan: one entry in the list that a session executes. Everything other code needs to know about it is
// stored as data by the operation that created it, so nothing switches over kinds of steps.
#pragma once

#include <cstdint>
#include <vector>

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

/// Data shared by all steps of one kind. Its address identifies the kind.
struct StepKind {
  const char* name;                         // for dumps, times, timelines, and LOWRANK_CHECK
  void (*run)(Run& run, const Step& step);  // computes; while planning, only counts
  bool once = false;                        // changes more than its buffers, so that no check may repeat it
  RowsOf rows = RowsOf::all;
};

// Kinds that belong to no operation.
extern const StepKind kZero;     // dx = 0, or the gradient of `parameter` if set
extern const StepKind kUpdate;   // dy = the complete gradient of `parameter`, with which the optimizer updates it
extern const StepKind kOffload;  // x -> the file
extern const StepKind kReload;   // the file -> y

/// One linear layer's contribution to an input gradient: dx += dy W + dh A.
struct GradientTerm {
  int node = -1;
  int dy = -1;  // -1: its contribution was computed separately
  int dh = -1;  // [T, rank], or -1 if no term has such an operand
};

/// Buffer ids by role; -1 means that the step does not use that role.
struct Step {
  const StepKind* kind = nullptr;
  Phase phase = Phase::forward;
  int node = -1;
  int x = -1, x2 = -1, y = -1, aux = -1, residual = -1;
  int q = -1, k = -1, v = -1;
  int dy = -1, dx = -1, dq = -1, dk = -1, dv = -1;
  int tail = -1;  // room behind x for operands of terms
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
  std::vector<int> weights;    // base weights it multiplies with, which are then in memory as a whole
  int sliced_weight = -1;      // base weight read one slice at a time per chunk of head rows, in reverse for dx
  bool losses = false;         // produces the losses of the head rows
  bool weighted = false;       // needs head row weights that depend on the losses
  std::vector<int> touches;    // trained parameters whose values or gradients it may use
  std::vector<int> adds;       // those of them whose gradients it adds to
  std::vector<int> gradients;  // buffers of these gradients, if in the arena
  double multiply_adds = 0;    // with base weights, at capacity; excludes adapters and attention

  template <class Visit>
  void each_buffer(Visit&& visit) const {
    for (const int id : {x, x2, y, aux, residual, q, k, v, dy, dx, dq, dk, dv, tail, workspace})
      if (id >= 0) visit(id);
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
};

}  // namespace lowrank
