// The native model graph, the counterpart of lib/graph/graph.ts. It describes what to compute and is validated by
// ops/check.h on input; native/plan decides the order, what to keep, and where.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/lists.h"

namespace lowrank {

struct GraphWeight {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  WeightKind kind = WeightKind::matrix;
};

struct GraphValue {
  int64_t cols = 0;
  ValueType type = ValueType::operand;
};

/// One node, with the attributes of its operation (lib/graph/nodes.ts documents them); -1 means absent.
struct Node : NodeAttributes {
  Op op = Op::linear;
  std::string path;
  int segment = -1;
  std::vector<int> inputs;  // value ids by role
  int out = -1;
};

/// Angles of a rotary embedding.
struct Rotary {
  std::vector<double> inv_freq;  // may be fewer than a head's pairs; its last columns are then not rotated
  double attention_factor = 1;
  // Rotated rows are scaled by 1 + growth ln(1 + floor(position / growth_every)).
  double growth = 0;
  int64_t growth_every = 0;
  // Frequencies for sequences of more than `long_above` tokens; empty: the same as for others.
  std::vector<double> long_inv_freq;
  int64_t long_above = 0;
};

/// The layers of one rank, if they are split over several.
struct GraphPart {
  int index = 0;       // the rank that computes them
  int count = 1;       // number of ranks
  int first_node = 0;  // added to a node's index, its index in the whole graph
};

struct Graph {
  std::string family;
  int64_t vocab_size = 0;
  int64_t labels = 0;  // number of classes of the head; 0 until checked if it predicts tokens
  int layers = 0;
  std::vector<GraphWeight> weights;
  std::vector<GraphValue> values;
  std::vector<Node> nodes;
  std::vector<Rotary> ropes;
  GraphPart part;

  // Filled by check_graph.
  std::vector<int> producer;                // node that makes each value
  std::vector<std::vector<int>> consumers;  // nodes that read each value, ascending
  std::unordered_map<std::string, int> node_of_path;
  std::unordered_map<std::string, int> weight_of_name;
  int last_segment = -1;

  /// False for a part of a model that ends before the head.
  bool has_head() const { return !nodes.empty() && nodes.back().op == Op::lm_head; }
  /// Number of tokens above which sequences use separate frequencies, the same for all rotations; 0: none do.
  int64_t long_above() const;
  /// Weights that are read a few rows at a time: the embedding table, and the head.
  std::vector<bool> tables() const;
  /// Elements of all weights.
  int64_t parameters() const;
  std::string to_text() const;
};

}  // namespace lowrank
