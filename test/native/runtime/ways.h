// Every kind of training of a small model, with all that it leaves behind: what sessions on two devices are compared
// by.
#pragma once

#include <algorithm>
#include <bit>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapters/check.h"
#include "check.h"
#include "core/random.h"
#include "optim/private_sum.h"
#include "optim/triplets.h"
#include "runtime/session.h"
#include "weights/quantizer.h"
#include "weights/read_weight.h"

namespace lowrank::test {

constexpr int64_t kVocab = 48, kHidden = 32, kHead = 16, kWidth = 64, kRank = 3, kTokens = 12;

/// So many blocks with attention; the names of those after the first begin with their number.
/// @param after attention and MLP read the residual stream as it is and are normalized with an offset before they join
/// it; the heads of queries and keys are normalized, the unit is a GELU's, and the rotation the second of two
/// @param fused one linear makes queries, keys, and values and one gate and up; a part of each head is rotated, by
/// other frequencies where a sequence has more than 6 tokens; queries grow with the position
/// @param convolved the first block has a short convolution in place of attention
/// @param recurrent the first block has a gated delta rule in place of attention, the others gate attention's output
inline Graph block(int blocks = 1, int64_t vocab = kVocab, bool after = false, bool fused = false,
                   bool convolved = false, bool recurrent = false) {
  Graph graph;
  graph.family = "test";
  graph.vocab_size = vocab;
  graph.layers = blocks;
  int at = 0;
  graph.ropes.emplace_back();
  if (after) {
    Rotary& second = graph.ropes.emplace_back();
    for (int64_t i = 0; i < kHead / 2; ++i) second.inv_freq.push_back(1.0 / static_cast<double>(2 + 5 * i));
    second.attention_factor = 1.5;
  }
  for (int64_t i = 0; i < kHead / 2; ++i) graph.ropes[0].inv_freq.push_back(1.0 / static_cast<double>(1 + 3 * i));
  if (fused) {
    graph.ropes[0].inv_freq.resize(kHead / 4);
    graph.ropes[0].long_inv_freq.assign(kHead / 4, 0.7);
    graph.ropes[0].long_above = 6;
    graph.ropes.push_back(graph.ropes[0]);
    graph.ropes[1].growth = 0.5;
    graph.ropes[1].growth_every = 2;
  }
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
    node.segment = op == Op::embedding || op == Op::lm_head || path == "norm" ? -1 : at;
    node.eps = 1e-5f;
    node.scale = 0.25f;
    node.heads = op == Op::slice ? 0 : static_cast<int>(cols / kHead);
    node.head_dim = kHead;
    if (op != Op::lm_head) {
      node.out = static_cast<int>(graph.values.size());
      graph.values.push_back({cols, type});
    }
    graph.nodes.push_back(node);
    return node.out;
  };
  const auto norm = [&](const std::string& path, int x) {
    return add(Op::rms_norm, path, {x}, kHidden, ValueType::operand, weight(path, 1, kHidden, WeightKind::vector));
  };
  const auto linear = [&](const std::string& path, int x, int64_t in, int64_t out, int residual = -1) {
    const int made =
        add(Op::linear, path, {x}, out, residual < 0 ? ValueType::operand : ValueType::residual, weight(path, out, in));
    graph.nodes.back().residual = residual;
    return made;
  };
  const auto enter = [&](const std::string& path, int x) {
    return after ? add(Op::cast, path, {x}, kHidden, ValueType::operand, -1) : norm(path, x);
  };
  const auto leave = [&](const std::string& path, int x, int64_t in, int residual) {
    if (!after) return linear(path, x, in, kHidden, residual);
    const int normed = norm(path + "_norm", linear(path, x, in, kHidden));
    graph.nodes.back().offset = 1;
    const int sum = add(Op::add, path + "_sum", {normed}, kHidden, ValueType::residual, -1);
    graph.nodes.back().residual = residual;
    return sum;
  };
  int x =
      add(Op::embedding, "embed", {}, kHidden, ValueType::residual, weight("embed", vocab, kHidden, WeightKind::table));
  for (; at < blocks; ++at) {
    const auto named = [at](const char* name) { return (at == 0 ? "" : std::to_string(at) + ".") + name; };
    const int normed = enter(named("norm1"), x);
    int middle;
    if (convolved && at == 0) {
      const int parts = linear("in", normed, kHidden, 3 * kHidden);
      const int kernel = weight("conv", 1, 3 * kHidden, WeightKind::vector);
      const int conv = add(Op::short_conv, "conv", {parts}, kHidden, ValueType::operand, kernel);
      graph.nodes.back().bias = weight("conv_bias", 1, kHidden, WeightKind::vector);
      middle = linear("o", conv, kHidden, kHidden, x);
    } else if (recurrent && at == 0) {
      constexpr int kKeyDim = 5, kHeads = 4, kKeyHeads = 2;
      const int x_cols = 2 * kKeyHeads * kKeyDim + kHidden;
      const int conv = add(Op::silu_conv, "conv", {linear("in", normed, kHidden, x_cols)}, x_cols, ValueType::operand,
                           weight("conv", 1, 4 * x_cols, WeightKind::vector));
      const int beta = linear("beta", normed, kHidden, kHeads), alpha = linear("alpha", normed, kHidden, kHeads);
      const int rule = add(Op::gated_delta_rule, "rule", {conv, beta, alpha}, kHidden, ValueType::operand,
                           weight("A_log", 1, kHeads, WeightKind::vector));
      Node& node = graph.nodes.back();
      node.bias = weight("dt_bias", 1, kHeads, WeightKind::vector);
      node.heads = kHeads;
      node.key_heads = kKeyHeads;
      node.key_dim = kKeyDim;
      const int grouped = add(Op::rms_norm, "rule_norm", {rule}, kHidden, ValueType::operand,
                              weight("rule_norm", 1, kHidden / kHeads, WeightKind::vector));
      const int gated = add(Op::gated_unit, "gated", {linear("z", normed, kHidden, kHidden), grouped}, kHidden,
                            ValueType::operand, -1);
      middle = linear("o", gated, kHidden, kHidden, x);
    } else {
      int q, k, v, attention_gate = -1;
      // Attentions of a model may differ in width, as their parts of the cache do.
      const int64_t keys = at == 0 ? kHead : kHidden;
      if (recurrent) {
        const int both = linear(named("q"), normed, kHidden, 2 * kHidden);
        const auto half = [&](const char* name, int64_t first) {
          const int made = add(Op::slice, named(name), {both}, kHidden, ValueType::operand, -1);
          graph.nodes.back().first = static_cast<int>(first);
          graph.nodes.back().heads = kHidden / kHead;
          return made;
        };
        q = half("query", 0);
        attention_gate = half("attention_gate", kHead);
        k = linear(named("k"), normed, kHidden, keys);
        v = linear(named("v"), normed, kHidden, keys);
      } else if (fused) {
        const int whole = linear(named("qkv"), normed, kHidden, kHidden + 2 * keys);
        const auto slice = [&](const char* name, int64_t first, int64_t cols) {
          const int made = add(Op::slice, named(name), {whole}, cols, ValueType::operand, -1);
          graph.nodes.back().first = static_cast<int>(first);
          return made;
        };
        q = slice("q", 0, kHidden);
        k = slice("k", kHidden, keys);
        v = slice("v", kHidden + keys, keys);
      } else {
        q = linear(named("q"), normed, kHidden, kHidden);
        graph.nodes.back().bias = weight(named("q_bias"), 1, kHidden, WeightKind::vector);
        k = linear(named("k"), normed, kHidden, keys);
        v = linear(named("v"), normed, kHidden, keys);
      }
      if (after) {
        const auto norm_heads = [&](const char* name, int heads, int64_t cols) {
          return add(Op::rms_norm, named(name), {heads}, cols, ValueType::operand,
                     weight(named(name), 1, kHead, WeightKind::vector));
        };
        q = norm_heads("q_norm", q, kHidden);
        k = norm_heads("k_norm", k, keys);
      }
      const int turned_q = add(Op::rope, named("rope_q"), {q}, kHidden, ValueType::operand, -1);
      graph.nodes.back().table = after || fused ? 1 : 0;
      const int turned_k = add(Op::rope, named("rope_k"), {k}, keys, ValueType::operand, -1);
      graph.nodes.back().table = after;
      int seen = add(Op::attention, named("attention"), {turned_q, turned_k, v}, kHidden, ValueType::operand, -1);
      graph.nodes.back().kv_heads = static_cast<int>(keys / kHead);
      if (recurrent) {
        seen = add(Op::gated_unit, named("gate_act"), {attention_gate, seen}, kHidden, ValueType::operand, -1);
        graph.nodes.back().function = Activation::sigmoid;
      }
      middle = leave(named("o"), seen, kHidden, x);
    }
    const int again = enter(named("norm2"), middle);
    const int gate = linear(named(fused ? "gate_up" : "gate"), again, kHidden, fused ? 2 * kWidth : kWidth);
    const int up = fused ? gate : linear(named("up"), again, kHidden, kWidth);
    const int unit = add(Op::gated_unit, named("act"), {gate, up}, kWidth, ValueType::operand, -1);
    graph.nodes.back().function = after ? Activation::gelu : Activation::silu;
    x = leave(named("down"), unit, kWidth, middle);
  }
  const int last = norm("norm", x);
  add(Op::lm_head, "head", {last}, vocab, ValueType::operand, weight("head", vocab, kHidden));
  return graph;
}

inline std::shared_ptr<Model> model_of(Pool& pool, StorageFormat format, int blocks = 1, int64_t vocab = kVocab,
                                       bool after = false, bool fused = false, bool convolved = false,
                                       bool recurrent = false) {
  auto model = std::make_shared<Model>(block(blocks, vocab, after, fused, convolved, recurrent));
  for (size_t i = 0; i < model->weights.size(); ++i) {
    const GraphWeight& w = model->graph.weights[i];
    const bool matrix = w.kind == WeightKind::matrix;
    Weight weight(matrix ? format : StorageFormat::f32, w.rows, w.cols);
    std::vector<float> values(static_cast<size_t>(w.rows * w.cols));
    fill_normal(values.data(), w.rows * w.cols, matrix ? 0.15f : 1, 11, w.name);
    if (matrix && format != StorageFormat::f32) {
      Quantizer quantizer(pool, weight, w.rows);
      std::copy(values.begin(), values.end(), quantizer.rows());
      CHECK(!quantizer.take(w.rows));
      quantizer.finish();
    } else {
      std::copy(values.begin(), values.end(), static_cast<float*>(weight.data()));
    }
    model->weights[i] = std::move(weight);
  }
  return model;
}

/// Linears by path with [out, in].
struct Linear {
  const char* path;
  int64_t out, in;
};
constexpr Linear kLinears[] = {{"q", kHidden, kHidden}, {"up", kWidth, kHidden}, {"down", kHidden, kWidth}};
constexpr Linear kFusedLinears[] = {
    {"qkv", kHidden + 2 * kHead, kHidden}, {"gate_up", 2 * kWidth, kHidden}, {"down", kHidden, kWidth}};

constexpr Linear kDeltaLinears[] = {{"in", 20 + kHidden, kHidden},
                                    {"beta", 4, kHidden},
                                    {"alpha", 4, kHidden},
                                    {"z", kHidden, kHidden},
                                    {"up", kWidth, kHidden}};
constexpr Linear kConvLinears[] = {{"in", 3 * kHidden, kHidden}, {"up", kWidth, kHidden}, {"down", kHidden, kWidth}};

inline int parameter(AdapterSpec& spec, const std::string& name, int64_t rows, int64_t cols, bool trained = true) {
  spec.parameters.push_back({name, rows, cols, trained});
  return static_cast<int>(spec.parameters.size()) - 1;
}

/// A term at every linear.
inline AdapterSpec at_linears(const std::function<TermSpec(AdapterSpec& spec, const Linear& at)>& term,
                              std::span<const Linear> linears = kLinears) {
  AdapterSpec spec;
  spec.trainable = true;
  for (const Linear& at : linears) {
    TermSpec made = term(spec, at);
    made.target = at.path;
    spec.terms.push_back(std::move(made));
  }
  return spec;
}

inline AdapterSpec lora(double dropout = 0, bool train_a = true, std::span<const Linear> linears = kLinears) {
  const auto term = [=](AdapterSpec& spec, const Linear& at) -> TermSpec {
    const std::string name = at.path;
    return {"low_rank",
            "",
            {{"a", parameter(spec, name + ".a", kRank, at.in, train_a)},
             {"b", parameter(spec, name + ".b", at.out, kRank)}},
            {{"rank", kRank}, {"scale", 0.5}, {"dropout", dropout}}};
  };
  return at_linears(term, linears);
}

/// With more parameters of the same terms.
inline AdapterSpec lora_with(const std::function<void(AdapterSpec& spec, TermSpec& term, const Linear& at)>& more,
                             double dropout = 0) {
  AdapterSpec spec = lora(dropout);
  for (size_t i = 0; i < spec.terms.size(); ++i) more(spec, spec.terms[i], kLinears[i]);
  return spec;
}

inline void add_magnitude(AdapterSpec& spec, TermSpec& term, const Linear& at) {
  term.parameters["magnitude"] = parameter(spec, term.target + ".magnitude", 1, at.out);
}

inline AdapterSpec full(bool in_backward, const Graph& graph = block()) {
  AdapterSpec spec;
  spec.trainable = true;
  spec.state.in_backward = in_backward;
  for (const GraphWeight& w : graph.weights) spec.copies.push_back({w.name, parameter(spec, w.name, w.rows, w.cols)});
  return spec;
}

/// One kind of training.
struct Way {
  AdapterSpec spec;
  StorageFormat base = StorageFormat::f32;
  Precision precision = Precision::f32;
  bool recompute = false, offload = false;
  double max_norm = 1;
  bool one_sequence = false;
  std::optional<RankDraws> ranks = {};
  int blocks = 1;
  int64_t vocab = kVocab;
  bool after = false, fused = false, convolved = false, recurrent = false;  // see block
  std::function<void(Model& model)> place = {};                             // puts the base elsewhere
  float smoothing = 0, noise = 0, temperature = 1;                          // of the loss and the embeddings
  bool two_passes = false;  // a weight for each position, known after the first half of a step
};

inline TrainInput input_of(const Way& way, int step) {
  TrainInput input;
  for (int64_t i = 0; i < kTokens; ++i) {
    input.tokens.push_back(static_cast<int32_t>((7 * i + step) % kVocab));
    input.labels.push_back(i % 4 == 3 ? -100 : static_cast<int32_t>((5 * i + 1) % kVocab));
  }
  input.cu_seqlens = {0, static_cast<int32_t>(kTokens)};
  if (!way.one_sequence) input.cu_seqlens = {0, 5, static_cast<int32_t>(kTokens)};
  input.loss_scale = 1.0f / 9;
  input.seed = 3;
  input.step = static_cast<uint64_t>(step);
  input.clipping_norm = 0.5;
  input.label_smoothing = way.smoothing;
  input.embedding_noise = way.noise;
  input.temperature = way.temperature;
  if (way.ranks) {
    input.active_rank = way.ranks->active;
    input.last_rank_only = way.ranks->last_only;
  }
  return input;
}

inline OptimizerStep update_of(const Way& way, int step) {
  OptimizerStep update;
  update.kind = way.spec.state.kind;
  update.beta1 = update.kind == OptimizerKind::sgd && !way.spec.state.momentum ? 0.0f : 0.9f;
  update.beta2 = 0.99f;
  update.epsilon = 1e-8f;
  update.max_grad_norm = way.spec.state.in_backward ? 0 : way.max_norm;
  update.step = step;
  update.groups = {{1e-2f, 0.1f}};
  update.ranks = way.ranks;
  return update;
}

/// Numbers that training and use leave behind, by what they are of.
struct Piece {
  std::string name;
  std::vector<double> numbers;
  bool bytes = false;  // of a state or a file, each a number
};

inline bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  const auto bits = [](double value) { return std::bit_cast<uint64_t>(value); };
  return std::ranges::equal(a, b, {}, bits, bits);
}

inline std::span<const Linear> linears_of(const Way& way) {
  if (way.convolved) return kConvLinears;
  if (way.recurrent) return kDeltaLinears;
  return way.fused ? std::span<const Linear>(kFusedLinears) : std::span<const Linear>(kLinears);
}

/// A step whose weights depend on the log-probabilities, as those of preferences do.
inline LossResult step_in_halves(Context& context, Session& session, const TrainInput& input,
                                 std::vector<Piece>& pieces) {
  const std::vector<float> found = session.score_step(context, "train", input, {}).log_probs;
  pieces.push_back({"log-probabilities", {found.begin(), found.end()}});
  std::vector<float> weights;
  for (size_t i = 0; i < found.size(); ++i) weights.push_back((i % 3 == 0 ? -0.05f : -0.1f) * found[i]);
  return session.finish_step(context, weights, {});
}

inline std::vector<Piece> results(Context& context, Pool& pool, const Way& way) {
  std::vector<Piece> pieces;
  const auto model =
      model_of(pool, way.base, way.blocks, way.vocab, way.after, way.fused, way.convolved, way.recurrent);
  if (way.place) way.place(*model);
  const auto adapter = std::make_shared<Adapter>(way.spec, context.device.memory());
  for (int i = 0; i < static_cast<int>(way.spec.parameters.size()); ++i) {
    const std::string& name = way.spec.parameters[static_cast<size_t>(i)].name;
    const HostView<float> values = adapter->edit(i);
    fill_normal(values.data(), values.size(), 0.1f, 5, name);
    if (name == "ratio") values[0] = 0.5f;
  }
  for (const WeightCopy& copy : way.spec.copies)
    copy_weight_into(context, *model, copy.weight, *adapter, copy.parameter);
  for (const TermFacts& facts : adapter->spec().facts)
    if (facts.magnitude >= 0) fill_row_norms(context, *model, *adapter, facts.magnitude);

  PlanOptions train, evaluate, generate;
  train.tokens = train.head_rows = kTokens;
  train.sequences = way.one_sequence ? 1 : 2;
  train.precision = way.precision;
  evaluate = generate = train;
  train.row_weights = train.two_passes = way.two_passes;
  train.recompute = way.recompute || way.offload;
  train.offload = way.offload;
  train.offload_folder = std::filesystem::temp_directory_path().string();
  evaluate.mode = Mode::evaluate;
  evaluate.output_norms =
      std::all_of(adapter->spec().facts.begin(), adapter->spec().facts.end(), [](auto& f) { return f.rank > 0; }) &&
      way.spec.copies.empty();
  generate.mode = Mode::forward;
  generate.sequences = 1;
  generate.kv_capacity = 2 * kTokens;
  Session session(context, model, {adapter}, {{"train", train}, {"evaluate", evaluate}, {"generate", generate}});
  const Privacy privacy = way.spec.privacy;
  const TrainedRanks ranks = way.ranks ? TrainedRanks(*way.ranks) : TrainedRanks();
  if (privacy != Privacy::none) begin_round(*adapter);
  if (privacy == Privacy::clients) begin_client(*adapter);
  for (int step = 1; step <= 2; ++step) {
    TrainInput input = input_of(way, step);
    if (way.spec.state.in_backward) input.update = update_of(way, step);
    const std::string at = " of step " + std::to_string(step);
    const LossResult loss = way.two_passes ? step_in_halves(context, session, input, pieces)
                                           : session.train_step(context, "train", input, {});
    pieces.push_back({"loss" + at, {loss.loss_sum}});
    pieces.push_back({"norms" + at, {loss.norms.begin(), loss.norms.end()}});
    if (privacy == Privacy::examples) release(context, *adapter, ranks, {{}, 1, 0.1}, 2);
    pieces.push_back(
        {"gradient norm" + at,
         {input.update ? loss.grad_norm.value() : optimizer_step(context.device, *adapter, update_of(way, step))}});
  }
  if (privacy == Privacy::clients) {
    pieces.push_back({"norm of a client", {add_client(context, *adapter, ranks, 0.5)}});
    release(context, *adapter, ranks, {{}, 1, 0.1}, 2);
    optimizer_step(context.device, *adapter, update_of(way, 1));
  }
  if (!way.spec.triplets.empty()) {
    const std::vector<double> scores = triplet_scores(pool, *adapter);
    pieces.push_back({"scores", scores});
    std::vector<uint8_t> keep(scores.size(), 1);
    keep[1] = 0;
    prune_triplets(*adapter, keep);
  }
  pieces.push_back({"loss of the evaluation", {session.evaluate(context, "evaluate", input_of(way, 3), {}).loss_sum}});
  if (evaluate.output_norms) {
    const auto norms = session.output_norms();
    pieces.push_back({"output norms", {norms.begin(), norms.end()}});
  }
  for (int64_t past = 0; past < 2; ++past) {
    ForwardInput input;
    input.tokens = {1, 2};
    input.past = 2 * past;
    input.reach = way.fused ? 8 : 0;
    input.rows = {1};
    const HostView<const float> logits = session.forward(context, "generate", input, {});
    pieces.push_back({"logits", {logits.begin(), logits.end()}});
  }
  for (int i = 0; i < static_cast<int>(way.spec.parameters.size()); ++i) {
    const std::string& name = way.spec.parameters[static_cast<size_t>(i)].name;
    const HostView<const float> values = adapter->view(i);
    pieces.push_back({name, {values.begin(), values.end()}});
    for (const StateTensor& tensor : adapter->state().tensors(i)) {
      std::vector<std::byte> bytes(static_cast<size_t>(tensor.bytes));
      adapter->state().read(i, tensor.name, 0, tensor.bytes, bytes.data());
      Piece& state = pieces.emplace_back(Piece{tensor.name + " of " + name, {}, true});
      for (const std::byte byte : bytes) state.numbers.push_back(static_cast<double>(byte));
    }
  }
  for (const Linear& at : linears_of(way)) {
    const int weight = model->graph.weight_of_name.at(at.path);
    const WeightedAdapter one{adapter.get()};
    const ReadOptions all{FileType::f32, 0, at.out, 0, at.path};
    const auto read = read_weight(pool, model->weights[static_cast<size_t>(weight)], at.path, {one}, all, {});
    pieces.push_back({std::string("file of ") + at.path, {read.begin(), read.end()}, true});
  }
  return pieces;
}

inline std::vector<Way> activations() {
  std::vector<Way> ways;
  ways.push_back({lora(0.2)});
  ways.push_back({.spec = lora(), .precision = Precision::bf16, .recompute = true});
  ways.push_back({.spec = lora(0.2), .offload = true, .blocks = 3});  // the last block puts nothing away
  ways.push_back({.spec = lora(0.2), .after = true});
  ways.push_back({.spec = lora(), .precision = Precision::bf16, .recompute = true, .blocks = 2, .after = true});
  return ways;
}

inline std::vector<Way> fused_linears() {
  std::vector<Way> ways;
  ways.push_back({.spec = lora(0.2, true, kFusedLinears), .fused = true});
  ways.push_back({.spec = lora(0, true, kFusedLinears),
                  .precision = Precision::bf16,
                  .recompute = true,
                  .blocks = 2,
                  .fused = true});
  Way scaled{.spec = lora(0, true, kFusedLinears), .fused = true};
  for (size_t i = 0; i < scaled.spec.terms.size(); ++i)
    add_magnitude(scaled.spec, scaled.spec.terms[i], kFusedLinears[i]);
  ways.push_back(scaled);
  return ways;
}

inline std::vector<Way> convolutions() {
  std::vector<Way> ways;
  ways.push_back({.spec = lora(0.2, true, kConvLinears), .convolved = true});
  ways.push_back({.spec = lora(0, true, kConvLinears),
                  .precision = Precision::bf16,
                  .recompute = true,
                  .blocks = 2,
                  .convolved = true});
  for (const bool in_backward : {false, true})
    ways.push_back({.spec = full(in_backward, block(2, kVocab, false, false, true)), .blocks = 2, .convolved = true});
  return ways;
}

inline std::vector<Way> delta_rules() {
  std::vector<Way> ways;
  ways.push_back({.spec = lora(0.2, true, kDeltaLinears), .recurrent = true});
  ways.push_back({.spec = lora(0, true, kDeltaLinears),
                  .precision = Precision::bf16,
                  .recompute = true,
                  .blocks = 2,
                  .recurrent = true});
  for (const bool in_backward : {false, true})
    ways.push_back(
        {.spec = full(in_backward, block(2, kVocab, false, false, false, true)), .blocks = 2, .recurrent = true});
  return ways;
}

inline std::vector<Way> four_bits() {
  std::vector<Way> ways;
  Way way{.spec = lora(), .base = StorageFormat::nf4_double, .precision = Precision::bf16};
  way.spec.state.eight_bit = true;
  ways.push_back(way);
  return ways;
}

inline std::vector<Way> factors() {
  std::vector<Way> ways;
  ways.push_back({lora_with(add_magnitude, 0.2)});
  ways.push_back({lora_with([](AdapterSpec& spec, TermSpec& term, const Linear& at) {
    term.parameters["d"] = parameter(spec, term.target + ".d", 1, kRank);
    term.parameters["mask"] = parameter(spec, term.target + ".mask", 1, kRank, false);
    term.parameters["bGain"] = parameter(spec, term.target + ".gain", 1, at.out);
  })});
  ways.push_back({lora_with([](AdapterSpec& spec, TermSpec& term, const Linear&) {
    const int d = term.parameters["d"] = parameter(spec, term.target + ".d", 1, kRank);
    spec.triplets.push_back({term.parameters["a"], d, term.parameters["b"], 0.85f, 0.85f, 0.1f});
  })});
  int ratio = -1;
  ways.push_back({lora_with([&](AdapterSpec& spec, TermSpec& term, const Linear& at) {
    if (ratio < 0) ratio = parameter(spec, "ratio", 1, 1, false);
    term.parameters["snapshotA"] = parameter(spec, term.target + ".a*", kRank, at.in, false);
    term.parameters["snapshotB"] = parameter(spec, term.target + ".b*", at.out, kRank, false);
    term.parameters["snapshotRatio"] = ratio;
  })});
  return ways;
}

inline std::vector<Way> other_terms() {
  std::vector<Way> ways;
  ways.push_back({at_linears([](AdapterSpec& spec, const Linear& at) -> TermSpec {
    const std::string name = at.path;
    return {"pair",
            "",
            {{"a", parameter(spec, name + ".a", 2, at.in)},
             {"b", parameter(spec, name + ".b", at.out, 2)},
             {"a2", parameter(spec, name + ".a2", 2, at.in)},
             {"b2", parameter(spec, name + ".b2", at.out, 2)}},
            {{"rank", 4}, {"scale", 0.5}, {"rowDropout", 0.2}}};
  })});
  ways.push_back({at_linears([](AdapterSpec& spec, const Linear& at) -> TermSpec {
    const std::string name = at.path;
    return {"kronecker",
            "",
            {{"c", parameter(spec, name + ".c", 4, 2)},
             {"c2", parameter(spec, name + ".c2", 2, 8)},
             {"d", parameter(spec, name + ".d", at.out / 4, 2)},
             {"d2", parameter(spec, name + ".d2", 2, at.in / 8)}},
            {{"scale", 0.5}, {"rowDropout", 0.2}}};
  })});
  ways.push_back({at_linears([](AdapterSpec& spec, const Linear& at) -> TermSpec {
    return {"rotation",
            "",
            {{"skew", parameter(spec, std::string(at.path) + ".skew", at.in / 8, 28)}},
            {{"size", 8}, {"terms", 5}}};
  })});
  AdapterSpec spec = lora();
  spec.terms.push_back(
      {"embedding",
       "embed",
       {{"a", parameter(spec, "embed.a", kRank, kVocab)}, {"b", parameter(spec, "embed.b", kHidden, kRank)}},
       {{"rank", kRank}, {"scale", 0.5}}});
  ways.push_back({spec});
  return ways;
}

inline std::vector<Way> hadamard_terms() {
  std::vector<Way> ways;
  ways.push_back({at_linears([](AdapterSpec& spec, const Linear& at) -> TermSpec {
    const std::string name = at.path;
    return {"hadamard",
            "",
            {{"a", parameter(spec, name + ".a", 3, at.in)}, {"b", parameter(spec, name + ".b", at.out, 3)}},
            {{"dropout", 0.2}}};
  })});
  return ways;
}

inline std::vector<Way> full_tuning() {
  std::vector<Way> ways;
  ways.push_back({full(false)});
  ways.push_back({.spec = full(true), .precision = Precision::bf16, .recompute = true});
  return ways;
}

inline std::vector<Way> optimizers() {
  std::vector<Way> ways;
  for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::lion, OptimizerKind::adafactor}) {
    Way way{lora()};
    way.spec.state.kind = kind;
    ways.push_back(way);
  }
  AdapterSpec frozen_a = lora(0, false);
  for (const TermSpec& term : frozen_a.terms)
    frozen_a.projections.push_back({term.parameters.at("a"), term.parameters.at("b"), 0.5f});
  ways.push_back({frozen_a});
  RankDraws draws;
  draws.active = 2;
  draws.last_only = true;
  draws.draws = {1, 2, 0};
  ways.push_back({.spec = lora(), .ranks = draws});
  return ways;
}

inline std::vector<Way> losses() {
  std::vector<Way> ways;
  ways.push_back({.spec = lora(), .smoothing = 0.2f, .noise = 5});
  ways.push_back({.spec = lora(0.2), .temperature = 1.5f, .two_passes = true});
  ways.push_back({.spec = lora(), .precision = Precision::bf16, .recompute = true, .two_passes = true});
  ways.push_back({.spec = full(true), .two_passes = true});
  return ways;
}

inline std::vector<Way> private_training() {
  std::vector<Way> ways;
  for (const Privacy privacy : {Privacy::examples, Privacy::clients})
    for (const bool one : {false, true}) {
      Way way{.spec = lora(), .one_sequence = one};
      way.spec.privacy = privacy;
      ways.push_back(way);
    }
  return ways;
}

}  // namespace lowrank::test
