// An operation of the graph is one room: a pair of files in ops/ that holds all that the engine knows about it. Whoever
// makes a plan hands the table of rooms over, so that the planner includes none of them.
#pragma once

#include <array>

#include "graph/graph.h"
#include "plan/step.h"

namespace lowrank {

class NodeCheck;
class Planner;

struct OpRules {
  bool ends = false;        // it ends the graph and makes no value
  bool cheap = false;       // one pass over memory makes its output again, so that is not kept
  bool overwrites = false;  // its output takes its input's place
  bool quadratic = false;   // its cost grows with the square of the tokens
  /// Checks the shapes and types of its values and weights; see ops/check.h.
  void (*shape)(const NodeCheck& check) = nullptr;
  /// True if its output must stay unchanged for its own backward pass.
  bool (*keeps_output)(const Planner& plan, int node) = nullptr;
  /// Emits the steps that compute its output.
  void (*forward)(Planner& plan, int node, Phase phase) = nullptr;
  /// Emits the steps of its backward pass. @param dy the finished gradient of its output; null: it has none, since the
  /// gradient of its input is made in the forward pass
  void (*backward)(Planner& plan, int node, int dy) = nullptr;
};

/// In the order of Op.
using OpTable = std::array<const OpRules*, 11>;

}  // namespace lowrank
