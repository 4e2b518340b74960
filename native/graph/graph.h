// The model graph as the native side holds it: the counterpart of lib/graph/graph.ts. It says what to compute, and
// ops/check.h checks it on the way in; native/plan decides in what order, what to keep and where.
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

/// One node. Which fields an op uses is stated in lib/graph/graph.ts; -1 means absent.
struct Node {
  Op op = Op::linear;
  std::string path;
  int segment = -1;
  std::vector<int> inputs;  // value ids: x | q, k, v | gate, up; a linear's residual is apart
  int residual = -1;
  int out = -1;
  int weight = -1;
  int bias = -1;
  float eps = 0;
  float scale = 0;
  float offset = 0;  // what a norm adds to its weight
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int layer = -1;
  int table = 0;    // rotation of a rope, by its number in the graph
  int first = 0;    // column of its input that a slice begins at
  int window = -1;  // keys that a token of an attention sees at most; absent: all before it and its own
};

/// Angles of a rotary embedding.
struct Rotary {
  std::vector<double> inv_freq;  // may be fewer than pairs of a head, whose last columns then stay
  double attention_factor = 1;
  // Rotated rows grow by 1 + growth ln(1 + floor(position / growth_every)).
  double growth = 0;
  int64_t growth_every = 0;
  // Frequencies of sequences of more tokens than `long_above`; empty: as of others.
  std::vector<double> long_inv_freq;
  int64_t long_above = 0;
};

struct Graph {
  std::string family;
  int64_t vocab_size = 0;
  int64_t labels = 0;  // that the head tells apart; 0 until checked where they are the vocabulary
  int layers = 0;
  std::vector<GraphWeight> weights;
  std::vector<GraphValue> values;
  std::vector<Node> nodes;
  std::vector<Rotary> ropes;

  // Filled by check_graph.
  std::vector<int> producer;                // node that makes each value
  std::vector<std::vector<int>> consumers;  // nodes that read each value, ascending
  std::unordered_map<std::string, int> node_of_path;
  std::unordered_map<std::string, int> weight_of_name;
  int last_segment = -1;

  /// The tokens above which sequences have frequencies of their own, alike for all rotations; 0: none have.
  int64_t long_above() const;
  /// Weights that are read some rows at a time: the table of the embedding, and the head.
  std::vector<bool> tables() const;
  /// Elements of all weights.
  int64_t parameters() const;
  std::string to_text() const;
};

}  // namespace lowrank
