// An operation of the graph is a file in ops/, which contains everything that the engine knows about it. The caller
// passes the table of operations, so that the planner includes none of them.
#pragma once

#include <array>

#include "core/boundary.h"
#include "graph/graph.h"
#include "plan/step.h"

namespace lowrank {

/// States the node of an operation, from which scripts/lists.mjs writes both languages' types: its inputs by role, its
/// attributes by type, and what it keeps.
#define LOWRANK_NODE(name, ...) extern const OpRules name

class NodeCheck;
class Planner;

struct OpRules {
  bool cheap = false;           // its output is recomputed in one memory pass, so it is not kept
  bool overwrites = false;      // its output replaces its input in place
  bool quadratic = false;       // its cost is quadratic in the number of tokens
  bool differentiated = false;  // its output needs a gradient, whatever the graph trains before it
  /// Checks the shapes and types of its values and weights; see ops/check.h.
  void (*shape)(const NodeCheck& check) = nullptr;
  /// True if its own backward pass needs its output unchanged.
  bool (*keeps_output)(const Planner& plan, int node) = nullptr;
  /// True if its inputs must have rows without gaps.
  bool (*reads_dense)(const Graph& graph, const Node& node) = nullptr;
  /// Emits the steps that compute its output.
  void (*forward)(Planner& plan, int node, Phase phase) = nullptr;
  /// Emits the steps of its backward pass. @param dy the finished gradient of its output; null: it has none, since the
  /// gradient of its input is computed in the forward pass
  void (*backward)(Planner& plan, int node, int dy) = nullptr;
  /// Bytes that a node keeps between the calls of a plan that generates, a multiple of 64; null: none.
  int64_t (*state_bytes)(const Graph& graph, const Node& node, const PlanOptions& options) = nullptr;
  /// Copies the state that a node kept after `run.past` tokens, a multiple of `state_block`, to where a call takes it.
  void (*rewind)(const Run& run, int node) = nullptr;
  /// Copies what a node keeps of `tokens` tokens from one part of the cache to another; null: it keeps states of one
  /// text, or nothing.
  void (*copy)(Run& run, int node, int64_t from, int64_t to, int64_t tokens) = nullptr;
};

/// In the order of Op.
using OpTable = std::array<const OpRules*, std::size(kOpNames)>;

}  // namespace lowrank
