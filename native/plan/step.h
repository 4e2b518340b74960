// A step of a plan: one entry of the list that a session executes. All that others ask about it is data, put there by
// the operation that made it: nothing switches over kinds of steps.
#pragma once

#include <cstdint>
#include <vector>

#include "core/lists.h"

namespace lowrank {

class Run;
class Term;
struct Step;

/// Data that steps of one kind have in common. Its address tells kinds apart.
struct StepKind {
  const char* name;                         // in dumps, times, timelines and LOWRANK_CHECK
  void (*run)(Run& run, const Step& step);  // to compute, and in a plan in the making to count
};

// Kinds that no operation has for itself.
extern const StepKind kZero;     // dx = 0, the gradient of `parameter` where that is set
extern const StepKind kUpdate;   // dy = the whole gradient of `parameter`, by which the optimizer moves it
extern const StepKind kOffload;  // x -> the file
extern const StepKind kReload;   // the file -> y

/// One linear's share of an input gradient: dx += dy W + dh A.
struct GradientTerm {
  int node = -1;
  int dy = -1;  // -1: its share was made apart
  int dh = -1;  // [T, rank], or -1 where no term has such an operand
};

/// Buffer ids by role; -1 means that the step does not use that role.
struct Step {
  const StepKind* kind = nullptr;
  Phase phase = Phase::forward;
  int node = -1;
  int x = -1, x2 = -1, y = -1, aux = -1, residual = -1;
  int q = -1, k = -1, v = -1;
  int dy = -1, dx = -1, dq = -1, dk = -1, dv = -1;
  int workspace = -1;
  int64_t offset = -1;  // in the file of offloaded activations
  int parameter = -1;   // of the trained adapter: the one that is updated, or whose gradient begins at zero
  bool accumulate = false;
  const Term* term = nullptr;  // whose step it is
  std::vector<GradientTerm> terms;

  // Facts about it.
  std::vector<int> writes;     // buffers, workspace apart, for the check step by step
  std::vector<int> weights;    // of the base, that it multiplies with and that are in memory as a whole meanwhile
  int sliced_weight = -1;      // of the base, read a slice at a time for every chunk of head rows, and back with dx
  bool losses = false;         // it leaves the losses of the head rows
  bool weighted = false;       // it needs weights of the head rows that their losses decide
  std::vector<int> touches;    // trained parameters whose values or gradients it may use
  std::vector<int> adds;       // of those, the ones whose gradients it adds to
  std::vector<int> gradients;  // buffers of these gradients, where they lie in the arena
  double multiply_adds = 0;    // with base weights, at capacity; those of adapters and attention are not in it

  template <class Visit>
  void each_buffer(Visit&& visit) const {
    for (const int id : {x, x2, y, aux, residual, q, k, v, dy, dx, dq, dk, dv, workspace})
      if (id >= 0) visit(id);
    for (const GradientTerm& term : terms) {
      visit(term.dy);
      if (term.dh >= 0) visit(term.dh);
    }
    for (const int id : gradients) visit(id);
  }
  template <class Visit>
  void each_written(Visit&& visit) const {
    for (const int id : writes) visit(id);
    for (const int id : gradients) visit(id);
  }
};

}  // namespace lowrank
