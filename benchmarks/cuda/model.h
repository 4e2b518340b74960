// A model of the Llama family with random weights in 4 bits, and LoRA on all of its linears.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapters/check.h"
#include "core/random.h"
#include "ops/ops.h"
#include "quant/half.h"
#include "weights/model.h"

namespace lowrank::bench {

struct Shape {
  int64_t hidden, width, layers, heads, kv_heads, vocab;
  int64_t head_dim() const { return hidden / heads; }
};

inline Graph graph_of(const Shape& shape) {
  Graph graph;
  graph.family = "llama";
  graph.vocab_size = shape.vocab;
  graph.layers = static_cast<int>(shape.layers);
  const int64_t head = shape.head_dim(), kv = shape.kv_heads * head;
  graph.ropes.emplace_back();
  for (int64_t i = 0; i < head / 2; ++i)
    graph.ropes[0].inv_freq.push_back(std::pow(500000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head)));
  int layer = -1;
  const auto weight = [&](const std::string& name, int64_t rows, int64_t cols, WeightKind kind = WeightKind::matrix) {
    graph.weights.push_back({name, rows, cols, kind});
    return static_cast<int>(graph.weights.size()) - 1;
  };
  const auto add = [&](Op op, const std::string& path, std::vector<int> inputs, int64_t cols, ValueType type, int w) {
    Node node;
    node.op = op;
    node.path = path;
    node.inputs = std::move(inputs);
    node.weight = w;
    node.segment = layer;
    node.eps = 1e-5f;
    node.scale = 1 / std::sqrt(static_cast<float>(head));
    node.heads = static_cast<int>(cols / head);
    node.head_dim = static_cast<int>(head);
    if (op != Op::lm_head) {
      node.out = static_cast<int>(graph.values.size());
      graph.values.push_back({cols, type});
    }
    graph.nodes.push_back(node);
    return node.out;
  };
  const auto norm = [&](const std::string& path, int x) {
    return add(Op::rms_norm, path, {x}, shape.hidden, ValueType::operand,
               weight(path, 1, shape.hidden, WeightKind::vector));
  };
  const auto linear = [&](const std::string& path, int x, int64_t in, int64_t out, int residual = -1) {
    const int made =
        add(Op::linear, path, {x}, out, residual < 0 ? ValueType::operand : ValueType::residual, weight(path, out, in));
    graph.nodes.back().residual = residual;
    return made;
  };
  int x = add(Op::embedding, "embed", {}, shape.hidden, ValueType::residual,
              weight("embed", shape.vocab, shape.hidden, WeightKind::table));
  for (layer = 0; layer < shape.layers; ++layer) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    const int normed = norm(at + "norm1", x);
    const int q = linear(at + "q", normed, shape.hidden, shape.hidden);
    const int k = linear(at + "k", normed, shape.hidden, kv), v = linear(at + "v", normed, shape.hidden, kv);
    const int turned_q = add(Op::rope, at + "rope_q", {q}, shape.hidden, ValueType::operand, -1);
    const int turned_k = add(Op::rope, at + "rope_k", {k}, kv, ValueType::operand, -1);
    const int seen =
        add(Op::attention, at + "attention", {turned_q, turned_k, v}, shape.hidden, ValueType::operand, -1);
    graph.nodes.back().kv_heads = static_cast<int>(shape.kv_heads);
    const int after = linear(at + "o", seen, shape.hidden, shape.hidden, x);
    const int again = norm(at + "norm2", after);
    const int gate = linear(at + "gate", again, shape.hidden, shape.width);
    const int up = linear(at + "up", again, shape.hidden, shape.width);
    const int unit = add(Op::gated_unit, at + "act", {gate, up}, shape.width, ValueType::operand, -1);
    x = linear(at + "down", unit, shape.width, shape.hidden, after);
  }
  layer = -1;
  add(Op::lm_head, "head", {norm("norm", x)}, shape.vocab, ValueType::operand,
      weight("head", shape.vocab, shape.hidden));
  check_graph(graph);
  return graph;
}

/// Fills 4-bit codes and their scales with noise of a size that keeps activations as they are; quantizing 8 billion
/// numbers would take longer than all that is measured.
inline Weight random_four_bit(int64_t rows, int64_t cols, uint64_t seed) {
  Weight weight(StorageFormat::nf4_double, rows, cols);
  const auto fill = [&](void* at, int64_t bytes, uint64_t stream) {
    auto* const words = static_cast<uint64_t*>(at);
    uint64_t state = seed * 0x9e3779b97f4a7c15 + stream;
    for (int64_t i = 0; i < bytes / 8; ++i) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      words[i] = state;
    }
  };
  const int64_t blocks = (rows * cols + kCodeBlock - 1) / kCodeBlock;
  fill(weight.data(), blocks * (kCodeBlock / 2), 1);
  std::fill_n(weight.absmax_codes(), blocks, uint8_t{200});
  std::fill_n(weight.nested_absmax(), (blocks + kNestedBlock - 1) / kNestedBlock,
              1.0f / std::sqrt(static_cast<float>(cols)));
  weight.set_absmax_offset(1.0f / std::sqrt(static_cast<float>(cols)));
  return weight;
}

/// Embedding and head in bf16, as in runs.
inline std::shared_ptr<const Model> model_of(const Shape& shape) {
  auto model = std::make_shared<Model>(graph_of(shape));
  for (size_t i = 0; i < model->weights.size(); ++i) {
    const GraphWeight& w = model->graph.weights[i];
    if (w.kind == WeightKind::matrix && w.name != "head") {
      model->weights[i] = random_four_bit(w.rows, w.cols, i + 1);
      continue;
    }
    const bool vector = w.kind == WeightKind::vector;
    Weight weight(vector ? StorageFormat::f32 : StorageFormat::bf16, w.rows, w.cols);
    if (vector) {
      std::fill_n(static_cast<float*>(weight.data()), w.cols, 1.0f);
    } else {
      std::vector<float> row(static_cast<size_t>(w.cols));
      for (int64_t r = 0; r < w.rows; ++r) {
        if (r < 64) fill_normal(row.data(), w.cols, 0.02f, i, w.name + std::to_string(r));  // then they repeat
        encode_bf16(row.data(), w.cols, static_cast<uint16_t*>(weight.data()) + r * w.cols);
      }
    }
    model->weights[i] = std::move(weight);
  }
  return model;
}

inline AdapterSpec lora_of(const Graph& graph, int64_t rank) {
  AdapterSpec spec;
  spec.trainable = true;
  for (const Node& node : graph.nodes) {
    if (node.op != Op::linear) continue;
    const GraphWeight& w = graph.weights[static_cast<size_t>(node.weight)];
    const int a = static_cast<int>(spec.parameters.size());
    spec.parameters.push_back({node.path + ".a", rank, w.cols, true});
    spec.parameters.push_back({node.path + ".b", w.rows, rank, true});
    spec.terms.push_back(
        {"low_rank", node.path, {{"a", a}, {"b", a + 1}}, {{"rank", static_cast<double>(rank)}, {"scale", 2.0}}});
  }
  check_adapter(spec);
  return spec;
}

}  // namespace lowrank::bench
