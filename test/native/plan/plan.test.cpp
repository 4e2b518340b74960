#include "plan/plan.h"

#include <algorithm>
#include <functional>
#include <tuple>

#include "backends/cpu/device.h"
#include "check.h"
#include "adapters/check.h"
#include "adapters/term.h"
#include "core/error.h"
#include "device/null.h"
#include "ops/ops.h"
#include "plan/buckets.h"
#include "plan/planned_adapter.h"
#include "runtime/dry_run.h"

using namespace lowrank;

namespace {

constexpr int64_t kHidden = 32, kWidth = 48, kVocab = 64;

Plan make_plan(const Graph& graph, const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options) {
  return make_plan(cpu::CpuSizes(1), graph, adapters, options);
}

/// Sizes of a device that joins operands.
struct JoiningSizes final : KernelSizes {
  int64_t workspace(const Kernel& kernel) const override { return cpu::CpuSizes(1).workspace(kernel); }
  bool joins_operands() const override { return true; }
};

/// A stack of MLP blocks without attention: enough to exercise keeping, recomputing and in-place rules.
Graph blocks(int layers) {
  Graph graph;
  graph.family = "test";
  graph.vocab_size = kVocab;
  graph.layers = layers;
  const auto weight = [&](const std::string& name, int64_t rows, int64_t cols, WeightKind kind) {
    graph.weights.push_back({name, rows, cols, kind});
    return static_cast<int>(graph.weights.size()) - 1;
  };
  const auto node = [&](Op op, const std::string& path, int segment, std::vector<int> inputs, int64_t cols,
                        ValueType type, int w, int residual = -1) {
    Node n;
    n.op = op;
    n.path = path;
    n.segment = segment;
    n.inputs = std::move(inputs);
    n.weight = w;
    n.residual = residual;
    n.eps = 1e-5f;
    if (op != Op::lm_head) {
      n.out = static_cast<int>(graph.values.size());
      graph.values.push_back({cols, type});
    }
    graph.nodes.push_back(n);
    return n.out;
  };
  int x = node(Op::embedding, "embed", -1, {}, kHidden, ValueType::residual,
               weight("embed", kVocab, kHidden, WeightKind::table));
  for (int l = 0; l < layers; ++l) {
    const std::string at = "layers." + std::to_string(l);
    const int normed = node(Op::rms_norm, at + ".norm", l, {x}, kHidden, ValueType::operand,
                            weight(at + ".norm", 1, kHidden, WeightKind::vector));
    const int gate = node(Op::linear, at + ".gate", l, {normed}, kWidth, ValueType::operand,
                          weight(at + ".gate", kWidth, kHidden, WeightKind::matrix));
    const int up = node(Op::linear, at + ".up", l, {normed}, kWidth, ValueType::operand,
                        weight(at + ".up", kWidth, kHidden, WeightKind::matrix));
    const int unit = node(Op::gated_unit, at + ".act", l, {gate, up}, kWidth, ValueType::operand, -1);
    x = node(Op::linear, at + ".down", l, {unit}, kHidden, ValueType::residual,
             weight(at + ".down", kHidden, kWidth, WeightKind::matrix), x);
  }
  const int last =
      node(Op::rms_norm, "norm", -1, {x}, kHidden, ValueType::operand, weight("norm", 1, kHidden, WeightKind::vector));
  node(Op::lm_head, "head", -1, {last}, 0, ValueType::operand, 0);
  check_graph(graph);
  return graph;
}

AdapterSpec lora(const Graph& graph, const std::string& only = "", bool train_a = true, bool magnitude = false) {
  AdapterSpec spec;
  spec.trainable = true;
  for (const Node& n : graph.nodes) {
    if (n.op != Op::linear || n.path.find(only) == std::string::npos) continue;
    const GraphWeight& w = graph.weights[n.weight];
    const int a = static_cast<int>(spec.parameters.size());
    spec.parameters.push_back({n.path + ".A", 4, w.cols, train_a});
    spec.parameters.push_back({n.path + ".B", w.rows, 4, true});
    spec.terms.push_back({"low_rank", n.path, {{"a", a}, {"b", a + 1}}, {{"rank", 4}, {"scale", 1}}});
    if (!magnitude) continue;
    spec.parameters.push_back({n.path + ".magnitude", 1, w.rows, true});
    spec.terms.back().parameters["magnitude"] = a + 2;
  }
  check_adapter(spec);
  return spec;
}

/// Every weight as a copy that is updated in the backward pass.
AdapterSpec whole(const Graph& graph) {
  AdapterSpec spec;
  spec.trainable = true;
  spec.state.in_backward = true;
  for (const GraphWeight& w : graph.weights) {
    spec.copies.push_back({w.name, static_cast<int>(spec.parameters.size())});
    spec.parameters.push_back({w.name, w.rows, w.cols, true});
  }
  check_adapter(spec);
  return spec;
}

PlanOptions options(Mode mode, bool recompute = false) {
  PlanOptions o;
  o.mode = mode;
  o.tokens = 128;
  o.sequences = 4;
  o.head_rows = 128;
  o.kv_capacity = mode == Mode::forward ? 256 : 0;
  o.recompute = recompute;
  return o;
}

PlanOptions offloading() {
  PlanOptions o = options(Mode::train, true);
  o.offload = true;
  return o;
}
std::vector<PlanOptions> ways_to_train() {
  return {options(Mode::train, false), options(Mode::train, true), offloading()};
}

bool is(const Step& step, const std::string& kind) { return kind == step.kind->name; }

int count(const Plan& plan, const std::string& kind, Phase phase) {
  return static_cast<int>(std::count_if(plan.steps.begin(), plan.steps.end(),
                                        [&](const Step& s) { return is(s, kind) && s.phase == phase; }));
}

}  // namespace

TEST("no two buffers that live at the same time overlap in the arena") {
  const Graph graph = blocks(5);
  for (const AdapterSpec& spec : {lora(graph), whole(graph)}) {
    for (const PlanOptions& how : ways_to_train()) {
      for (const Plan& plan : {make_plan(graph, {&spec}, how), make_plan(JoiningSizes(), graph, {&spec}, how)}) {
        for (size_t i = 0; i < plan.buffers.size(); ++i) {
          const Buffer& a = plan.buffers[i];
          if (a.first < 0 || a.within >= 0) continue;
          CHECK_LE(a.offset + a.bytes, plan.arena_bytes);
          for (size_t j = i + 1; j < plan.buffers.size(); ++j) {
            const Buffer& b = plan.buffers[j];
            if (b.first < 0 || b.within >= 0 || b.last < a.first || a.last < b.first) continue;
            CHECK(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset);
          }
        }
      }
    }
  }
}

TEST("a step has no buffer for a role of another operation") {
  const Graph graph = blocks(2);
  const AdapterSpec spec = lora(graph);
  const Plan plan = make_plan(graph, {&spec}, options(Mode::train));
  const auto first = [&](const char* kind) -> const Step& {
    return *std::find_if(plan.steps.begin(), plan.steps.end(), [&](const Step& step) { return is(step, kind); });
  };
  const Step &linear = first("linear"), &gradient = first("linear_param_gradient");
  CHECK(linear[ProductRole::hidden] >= 0);
  CHECK(gradient[HiddenRole::h] >= 0);
  CHECK_THROWS(linear[HiddenRole::h], "a step of linear is asked for a buffer by a role of another kind");
  CHECK_THROWS(gradient[ProductRole::hidden], "a step of linear_param_gradient is asked for");
}

TEST("a buffer is written before it is read") {
  const Graph graph = blocks(4);
  for (const AdapterSpec& spec : {lora(graph), whole(graph)}) {
    for (const PlanOptions& how : ways_to_train()) {
      const Plan plan = make_plan(graph, {&spec}, how);
      std::vector<bool> written(plan.buffers.size(), false);
      written[plan.tokens] = true;
      for (const Step& step : plan.steps) {
        // A gradient begins with the step that clears it.
        for (const int id : step.gradients) CHECK(written[id]);
        std::vector<bool> now = written;
        step.each_written([&](int id) { now[id] = true; });
        if (step.workspace >= 0) now[step.workspace] = true;
        if (is(step, "head_loss")) now[step.buffers[slot::x2]] = now[step.buffers[slot::y]] = true;
        step.each_buffer([&](int id) { CHECK(now[id]); });
        written = now;
      }
    }
  }
}

TEST("in the backward pass every weight is updated once, after all that uses it") {
  const Graph graph = blocks(5);
  const AdapterSpec spec = whole(graph);
  for (const PlanOptions& how : ways_to_train()) {
    const Plan plan = make_plan(graph, {&spec}, how);
    std::vector<bool> updated(graph.weights.size(), false);
    for (const Step& step : plan.steps) {
      if (is(step, "update")) {
        CHECK(!updated[step.parameter]);
        updated[step.parameter] = true;
        continue;
      }
      // Offloaded and reloaded values are outputs of nodes, not their weights.
      if (is(step, "zero") || is(step, "offload") || is(step, "reload")) continue;
      std::vector<int> nodes{step.node};
      for (const GradientTerm& term : step.terms) nodes.push_back(term.node);
      for (const int node : nodes)
        if (const int weight = graph.nodes[node].weight; weight >= 0) CHECK(!updated[weight]);
    }
    CHECK(std::all_of(updated.begin(), updated.end(), [](bool done) { return done; }));
    // Embedding and head are one: its gradient begins with the loss and is whole with the last step.
    const Step& last = plan.steps.back();
    CHECK(is(last, "update") && last.parameter == 0);
    const int first = plan.buffers[last[PlanRole::gradient]].first;
    CHECK(is(plan.steps[first], "zero") && is(plan.steps[first + 1], "head_loss"));
    // Beside it wait those of a block's gate and up at most, and of what comes next.
    const int64_t of_block = (2 * kHidden * kWidth + kHidden) * 4;
    int64_t most = 0;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      int64_t live = 0;
      for (const Buffer& b : plan.buffers)
        if (b.category == Category::gradients && b.first <= static_cast<int>(i) && static_cast<int>(i) <= b.last)
          live += b.bytes;
      most = std::max(most, live);
    }
    CHECK_LE(most, kVocab * kHidden * 4 + of_block);
    CHECK_LE(plan.peak_rows()[static_cast<int>(Category::gradients)], most);
  }
}

TEST("buckets hold every gradient once, after all that adds to it, in an order of their own") {
  const Graph graph = blocks(5);
  AdapterSpec kept = whole(graph);
  kept.state.in_backward = false;
  for (const AdapterSpec& spec : {lora(graph), kept})
    for (const PlanOptions& how : ways_to_train())
      for (const int64_t least : {int64_t{1}, int64_t{4096}, int64_t{1} << 30}) {
        const Plan plan = make_plan(graph, {&spec}, how);
        const std::vector<GradientBucket> buckets = gradient_buckets(plan, spec, least);
        std::vector<int64_t> complete(static_cast<size_t>(spec.trained_elements), -1);
        int64_t elements = 0;
        for (const auto& [step, begin, count] : buckets) {
          elements += count;
          std::fill_n(complete.begin() + begin, count, static_cast<int64_t>(step));
        }
        CHECK_EQ(elements, spec.trained_elements);
        CHECK(std::none_of(complete.begin(), complete.end(), [](int64_t step) { return step < 0; }));
        CHECK(std::is_sorted(buckets.begin(), buckets.end(),
                             [](const auto& a, const auto& b) { return a.step < b.step; }));
        for (size_t i = 0; i < plan.steps.size(); ++i)
          for (const int p : plan.steps[i].adds)
            CHECK_LE(static_cast<int64_t>(i), complete[static_cast<size_t>(spec.offsets[p])]);
        // Gradients of the last blocks go out before the pass is over.
        if (least == 1) CHECK_LE(buckets.front().step, plan.steps.size() / 2 + plan.steps.size() / 4);
      }
}

TEST("recompute runs every block again but the last, and holds less") {
  const Graph graph = blocks(6);
  const AdapterSpec spec = lora(graph);
  const Plan keep = make_plan(graph, {&spec}, options(Mode::train, false));
  const Plan again = make_plan(graph, {&spec}, options(Mode::train, true));
  CHECK_EQ(count(keep, "linear", Phase::recompute), 0);
  // gate and up of five blocks; a block's last linear gives nothing that the backward pass reads.
  CHECK_EQ(count(again, "linear", Phase::recompute), 10);
  CHECK_EQ(count(again, "adapter_hidden", Phase::recompute), 5);
  CHECK_LE(again.arena_bytes, keep.arena_bytes - 1);
}

TEST("offloaded, the inputs of recomputed blocks leave the arena, each for a place of its own in the file") {
  const Graph graph = blocks(6);
  const AdapterSpec spec = lora(graph);
  const Plan kept = make_plan(graph, {&spec}, options(Mode::train, true)),
             plan = make_plan(graph, {&spec}, offloading());
  CHECK_EQ(kept.offloaded_bytes, 0);
  // Those of five blocks, the first being the embedding's output, the last being computed again by none.
  CHECK_EQ(count(plan, "offload", Phase::forward), 5);
  CHECK_EQ(count(plan, "reload", Phase::recompute), 5);
  CHECK_EQ(count(plan, "linear", Phase::recompute), count(kept, "linear", Phase::recompute));
  const auto is_input = [](const Buffer& b) { return b.dtype == DType::f32 && b.category == Category::activations; };
  const int64_t bytes = std::find_if(plan.buffers.begin(), plan.buffers.end(), is_input)->bytes;
  CHECK_EQ(plan.offloaded_bytes, 5 * ((bytes + 4095) / 4096 * 4096));
  CHECK_LE(plan.arena_bytes, kept.arena_bytes - 3 * bytes);
  std::vector<int64_t> went, came;
  for (const Step& step : plan.steps) {
    if (is(step, "offload")) went.push_back(step.offset);
    if (is(step, "reload")) came.insert(came.begin(), step.offset);
  }
  CHECK(went == came);
  CHECK(std::adjacent_find(went.begin(), went.end(), std::greater_equal<>()) == went.end());
  PlanOptions o = options(Mode::train, false);
  o.offload = true;
  CHECK_THROWS(make_plan(graph, {&spec}, o), "requires training with gradient checkpointing");
}

TEST("no input gradient is formed below the lowest adapter") {
  const Graph graph = blocks(6);
  const AdapterSpec spec = lora(graph, "layers.4.");
  const Plan plan = make_plan(graph, {&spec}, options(Mode::train));
  for (const Step& step : plan.steps) {
    if (step.phase != Phase::backward) continue;
    CHECK(graph.nodes[step.node].segment < 0 || graph.nodes[step.node].segment >= 4);
  }
  // Block 5: down's input, then gate and up's together. Block 4: down's input alone.
  CHECK_EQ(count(plan, "linear_input_gradient", Phase::backward), 3);
}

TEST("gradients of linears that share an input are one product") {
  const Graph graph = blocks(1);
  const AdapterSpec spec = lora(graph);
  const Graph two = blocks(2);
  const AdapterSpec spec_two = lora(two);
  const Plan plan = make_plan(two, {&spec_two}, options(Mode::train));
  const auto shared = std::find_if(plan.steps.begin(), plan.steps.end(), [&](const Step& s) {
    return is(s, "linear_input_gradient") && s.terms.size() == 2;
  });
  REQUIRE(shared != plan.steps.end());
  CHECK_EQ(two.nodes[shared->terms[0].node].segment, 1);
}

TEST("gradients of linears that share an input lie beside each other where the device asks for it") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (const PlanOptions& how : ways_to_train()) {
    const Plan plan = make_plan(JoiningSizes(), graph, {&spec}, how);
    int shared = 0;
    for (const Step& step : plan.steps) {
      if (!is(step, "linear_input_gradient") || step.terms.size() < 2) continue;
      ++shared;
      const GradientTerm &gate = step.terms[0], &up = step.terms[1];
      const int outer = plan.buffers[gate.dy].within;
      REQUIRE(outer >= 0);
      int64_t column = 0;
      for (const int id : {gate.dy, up.dy, gate.dh, up.dh}) {
        const Buffer& inner = plan.buffers[id];
        CHECK_EQ(inner.within, outer);
        CHECK_EQ(inner.column, column);
        CHECK_EQ(inner.offset, plan.buffers[outer].offset + 4 * column);
        CHECK_EQ(inner.bytes, 0);
        CHECK(plan.buffers[outer].first <= inner.first && inner.last <= plan.buffers[outer].last);
        column += inner.cols;
      }
      CHECK_EQ(plan.buffers[outer].cols, (column + 63) / 64 * 64);
    }
    CHECK_EQ(shared, 2);  // below the first block nothing trains
    const Plan apart = make_plan(graph, {&spec}, how);
    CHECK(std::none_of(apart.buffers.begin(), apart.buffers.end(), [](const Buffer& b) { return b.within >= 0; }));
  }
}

TEST("the operand of a term lies behind the input of its linear where the device asks for it") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (const PlanOptions& how : ways_to_train()) {
    const Plan plan = make_plan(JoiningSizes(), graph, {&spec}, how);
    for (const Step& whole : plan.steps) {
      if (!is(whole, "linear")) continue;
      const std::vector<Step> alone = {whole};
      for (const Step& step : whole.group.empty() ? alone : whole.group) {
        REQUIRE(step[ProductRole::tail] >= 0);
        const Buffer &x = plan.buffers[step[ProductRole::x]], &tail = plan.buffers[step[ProductRole::tail]];
        CHECK(tail.within >= 0 && tail.within == x.within);
        CHECK_EQ(tail.column, x.column + x.cols);
        CHECK_EQ(tail.cols, whole.group.empty() ? 4 : 8);
        // Kept apart for the backward pass, unless the linear then runs again.
        const bool again = how.recompute && step.phase == Phase::forward && graph.nodes[step.node].segment < 2 &&
                           graph.nodes[step.node].residual < 0;
        CHECK_EQ(step[ProductRole::hidden] < 0, again);
      }
    }
  }
}

void check_groups(const Graph& graph, const AdapterSpec& spec) {
  std::vector<PlanOptions> ways = ways_to_train();
  ways.push_back(options(Mode::forward));
  for (const PlanOptions& how : ways) {
    const Plan plan = make_plan(JoiningSizes(), graph, {&spec}, how);
    const auto output = [&](const Step& step) -> const Buffer& {
      return plan.buffers[step[step[ProductRole::unscaled] >= 0 ? ProductRole::unscaled : ProductRole::y]];
    };
    int groups = 0;
    for (const Step& step : plan.steps) {
      if (!is(step, "linear") || step.group.empty()) continue;
      ++groups;
      REQUIRE(step.group.size() == 2);
      const Buffer &up = output(step.group[0]), &gate = output(step.group[1]);
      CHECK_EQ(graph.nodes[step.group[1].node].path.substr(8), ".gate");
      CHECK(up.within >= 0 && up.within == gate.within);
      CHECK_EQ(up.column, 0);
      CHECK_EQ(gate.column, up.cols);
      CHECK_EQ(step.weights.size(), 2U);
    }
    CHECK_EQ(groups, how.mode == Mode::train && how.recompute ? 5 : 3);  // the last block never runs again
    const Plan apart = make_plan(graph, {&spec}, how);
    CHECK(std::all_of(apart.steps.begin(), apart.steps.end(), [](const Step& step) { return step.group.empty(); }));
  }
}

TEST("linears that share an input are one step, with outputs beside each other, where the device asks for it") {
  const Graph graph = blocks(3);
  check_groups(graph, lora(graph));
  check_groups(graph, lora(graph, "", true, true));
}

TEST(
    "the gradient of a residual is made an operand once, beside that at the hidden values, where the device asks for "
    "it") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (PlanOptions how : ways_to_train()) {
    how.precision = Precision::bf16;
    const Plan plan = make_plan(JoiningSizes(), graph, {&spec}, how);
    CHECK_EQ(count(plan, "gradient_cast", Phase::backward), 3);
    for (const Step& step : plan.steps) {
      if (!is(step, "linear_input_gradient") || step.terms.size() > 1) continue;
      const Buffer &dy = plan.buffers[step.terms[0].dy], &dh = plan.buffers[step.terms[0].dh];
      CHECK(dy.dtype == DType::bf16 && dy.within >= 0 && dy.within == dh.within);
      CHECK_EQ(dh.column, dy.cols);
    }
    CHECK_EQ(count(make_plan(graph, {&spec}, how), "gradient_cast", Phase::backward), 0);
  }
}

TEST("a frozen A spares its input: x is neither kept nor made again") {
  const Graph graph = blocks(4);
  const AdapterSpec both = lora(graph), frozen = lora(graph, "", false);
  const Plan plain = make_plan(graph, {&both}, options(Mode::train));
  const Plan plan = make_plan(graph, {&frozen}, options(Mode::train));
  CHECK(count(plain, "gated_unit", Phase::recompute) > 0);
  CHECK_EQ(count(plan, "gated_unit", Phase::recompute), 0);
  CHECK_EQ(count(plan, "rms_norm", Phase::recompute), 0);
}

TEST("evaluation keeps one residual stream and no activations") {
  const Plan small = make_plan(blocks(2), {}, options(Mode::evaluate));
  const Plan large = make_plan(blocks(40), {}, options(Mode::evaluate));
  CHECK_EQ(small.arena_bytes, large.arena_bytes);
}

TEST("most is live at the peak, and what is live fits the arena") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (const bool recompute : {false, true}) {
    const Plan plan = make_plan(graph, {&spec}, options(Mode::train, recompute));
    const std::vector<int64_t> live = plan.live_bytes();
    CHECK_EQ(live.size(), plan.steps.size());
    for (const int64_t bytes : live) CHECK(bytes > 0 && bytes <= live[plan.peak_step]);
    CHECK(live[plan.peak_step] <= plan.arena_bytes);
  }
}

TEST("products with base weights are counted once for every time that they are computed") {
  constexpr int kLayers = 3;
  const Graph graph = blocks(kLayers);
  const AdapterSpec spec = lora(graph);
  const auto total = [&](const PlanOptions& o, const std::vector<const AdapterSpec*>& adapters) {
    const Plan plan = make_plan(graph, adapters, o);
    double sum = 0;
    for (const Step& step : plan.steps) sum += step.multiply_adds;
    return sum / static_cast<double>(o.tokens);
  };
  const double linear = kHidden * kWidth, head = kVocab * kHidden;
  CHECK_EQ(total(options(Mode::evaluate), {}), 3 * kLayers * linear + head);
  // Nothing trains below the first gate and up, so the gradient at their input is not formed.
  const double kept = (3 * kLayers + 3 * kLayers - 2) * linear + 2 * head;
  CHECK_EQ(total(options(Mode::train), {&spec}), kept);
  // Gate and up of every block but the last run again; what down adds to is kept.
  CHECK_EQ(total(options(Mode::train, true), {&spec}), kept + 2 * (kLayers - 1) * linear);
}

TEST("the rows of the peak add up to the arena") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (const bool recompute : {false, true}) {
    const Plan plan = make_plan(graph, {&spec}, options(Mode::train, recompute));
    int64_t sum = 0;
    for (const int64_t bytes : plan.peak_rows()) sum += bytes;
    CHECK_EQ(sum, plan.arena_bytes);
  }
}

TEST("a plan refuses what it cannot run, by name") {
  const Graph graph = blocks(2);
  AdapterSpec spec = lora(graph);
  CHECK_THROWS(make_plan(graph, {}, options(Mode::train)), "exactly one adapter");
  PlanOptions none = options(Mode::train);
  none.tokens = 0;
  CHECK_THROWS(make_plan(graph, {&spec}, none), "tokens is 0");
  spec.terms[0].target = "layers.9.gate";
  CHECK_THROWS(make_plan(graph, {&spec}, options(Mode::train)), "'layers.9.gate' is not a linear");
  spec = lora(graph);
  spec.terms[1].target = spec.terms[2].target;
  CHECK_THROWS(make_plan(graph, {&spec}, options(Mode::train)), "adapter at layers.0.down");
}

TEST("a graph with a wrong shape names the node") {
  Graph graph = blocks(1);
  graph.weights[2].cols = 31;
  graph.node_of_path.clear();
  graph.weight_of_name.clear();
  CHECK_THROWS(check_graph(graph), "layers.0.gate");
}

namespace {

/// A linear's output rotated and attended to, with room for mistakes: `also` reads the queries before they are rotated.
Graph attention_graph(bool also = false) {
  Graph graph = blocks(1);
  const Node embed = graph.nodes[0], norm = graph.nodes[1];
  graph.nodes.clear();
  graph.values.clear();
  graph.weights.resize(2);  // the embedding and the norm
  for (const char* name : {"q", "k", "o", "v"}) graph.weights.push_back({name, kHidden, kHidden, WeightKind::matrix});
  graph.node_of_path.clear();
  graph.weight_of_name.clear();
  graph.ropes.emplace_back().inv_freq = {1, 1, 1, 1};
  graph.layers = 8;
  const auto value = [&](ValueType type) {
    graph.values.push_back({kHidden, type});
    return static_cast<int>(graph.values.size()) - 1;
  };
  const auto add = [&](Op op, const char* path, std::vector<int> inputs, int weight, ValueType type) -> Node& {
    Node node;
    node.op = op;
    node.path = path;
    node.inputs = std::move(inputs);
    node.weight = weight;
    node.heads = node.kv_heads = 4;
    node.head_dim = 8;
    if (op != Op::lm_head) node.out = value(type);
    return graph.nodes.emplace_back(std::move(node));
  };
  const int x = add(Op::embedding, "embed", {}, embed.weight, ValueType::residual).out;
  const int normed = add(Op::rms_norm, "norm", {x}, norm.weight, ValueType::operand).out;
  const int q = add(Op::linear, "q", {normed}, 2, ValueType::operand).out;
  const int k = add(Op::linear, "k", {normed}, 3, ValueType::operand).out;
  const int v = add(Op::linear, "v", {normed}, 5, ValueType::operand).out;
  const int rotated = add(Op::rope, "rope", {q}, -1, ValueType::operand).out;
  const int out = add(Op::attention, "attention", {rotated, k, also ? q : v}, -1, ValueType::operand).out;
  add(Op::linear, "o", {out}, 4, ValueType::residual).residual = x;
  const int last = add(Op::rms_norm, "last", {graph.nodes.back().out}, norm.weight, ValueType::operand).out;
  add(Op::lm_head, "head", {last}, embed.weight, ValueType::operand);
  return graph;
}

}  // namespace

TEST("an attention's window is absent or at least one key") {
  for (const int window : {0, -2}) {
    Graph graph = attention_graph();
    const auto node =
        std::find_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.op == Op::attention; });
    node->window = window;
    CHECK_THROWS(check_graph(graph), "attention at attention: its window must be at least 1");
  }
}

TEST("an operation refuses values that its kernels do not take, and the graph an order that none has") {
  const auto refused = [](Graph graph, auto&& change, const std::string& message) {
    change(graph);
    CHECK_THROWS(check_graph(graph), message);
  };
  const auto rope = [](Graph& graph) -> Node& {
    return *std::find_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.op == Op::rope; });
  };
  const Graph mlp = blocks(1), attends = attention_graph();
  refused(
      mlp, [](Graph& g) { g.values[4].cols = kWidth + 1; },
      "gated_unit at layers.0.act: gate, up and output differ in width");
  refused(mlp, [](Graph& g) { g.nodes[4].inputs.pop_back(); }, "gated_unit at layers.0.act: wrong number of inputs");
  refused(mlp, [](Graph& g) { g.nodes[4].inputs = {2, 9}; }, "gated_unit at layers.0.act: value 9 does not exist");
  refused(
      mlp, [](Graph& g) { g.nodes[5].residual = 1; }, "linear at layers.0.down: the residual differs from the output");
  refused(attends, [&](Graph& g) { rope(g).heads = 3; }, "rope at rope: width is not heads x headDim");
  refused(
      attends, [](Graph& g) { g.ropes[0].inv_freq.push_back(1); },
      "rope at rope: invFreq of its rotation must have 1 to headDim / 2 numbers");
  refused(
      attends, [](Graph& g) { g.ropes[0].growth = 1; }, "rope at rope: its rotation must grow every so many positions");
  const char* const uneven = "rope at rope: the frequencies of long sequences must be as many as of others";
  refused(attends, [](Graph& g) { g.ropes[0].long_inv_freq = {1}, g.ropes[0].long_above = 9; }, uneven);
  refused(attends, [](Graph& g) { g.ropes[0].long_inv_freq = {1, 1, 1, 1}; }, uneven);
  const auto cut = [](int first) {
    return [first](Graph& g) { g.nodes[4].op = Op::slice, g.nodes[4].inputs = {2}, g.nodes[4].first = first; };
  };
  refused(mlp, cut(1), "slice at layers.0.act: its columns must be among those of its input");
  refused(mlp, cut(-1), "slice at layers.0.act: its columns must be among those of its input");
  const auto convolve = [](int64_t cols, int64_t weights) {
    return [=](Graph& g) {
      Node& node = g.nodes[4];
      node.op = Op::short_conv, node.inputs = {2};
      node.weight = static_cast<int>(g.weights.size());
      g.weights.push_back({"conv", 1, weights, WeightKind::vector});
      g.values[node.out].cols = cols;
    };
  };
  refused(mlp, convolve(20, 60), "short_conv at layers.0.act: its input must be three times as wide as its output");
  refused(mlp, convolve(16, 50), "short_conv at layers.0.act: its weight must have 1 to 32 numbers per column");
  refused(mlp, convolve(16, 33 * 16), "short_conv at layers.0.act: its weight must have 1 to 32 numbers per column");
  const auto plain = [&](int64_t cols) {
    return [=](Graph& g) { convolve(cols, 2 * cols)(g), g.nodes[4].op = Op::silu_conv; };
  };
  refused(mlp, plain(8), "silu_conv at layers.0.act: its input and output differ in width");
  const auto by_heads = [&](int heads, int first, int64_t cols) {
    return [=](Graph& g) { cut(first)(g), g.nodes[4].heads = heads, g.values[g.nodes[4].out].cols = cols; };
  };
  const char* const parts = "slice at layers.0.act: the widths of its input and output must be multiples of its heads";
  refused(mlp, by_heads(5, 0, 10), parts);
  refused(mlp, by_heads(4, 0, 6), parts);
  refused(mlp, by_heads(4, 11, 8), "slice at layers.0.act: its columns must be among those of its input");
  const auto rule = [](int heads, int key_heads, int key_dim, int64_t cols) {
    return [=](Graph& g) {
      Node& node = g.nodes[4];
      node.op = Op::gated_delta_rule, node.inputs = {2, 2, 2};
      node.heads = heads, node.key_heads = key_heads, node.key_dim = key_dim;
      node.weight = node.bias = static_cast<int>(g.weights.size());
      g.weights.push_back({"A_log", 1, 5, WeightKind::vector});
      g.values[node.out].cols = cols;
    };
  };
  const std::string at_rule = "gated_delta_rule at layers.0.act: ";
  refused(mlp, rule(3, 2, 1, 12), at_rule + "heads must be a multiple of keyHeads");
  refused(mlp, rule(4, 2, 0, 12), at_rule + "its output must be [T, heads x valueDim], and keyDim at least 1");
  refused(mlp, rule(4, 2, 1, 10), at_rule + "its output must be [T, heads x valueDim], and keyDim at least 1");
  refused(mlp, rule(4, 2, 1, 8), at_rule + "its input must be [T, 2 keyHeads x keyDim + heads x valueDim]");
  refused(mlp, rule(4, 2, 8, 16), at_rule + "beta and alpha must be [T, heads]");
  refused(mlp, rule(16, 0, 0, 16), at_rule + "heads must be a multiple of keyHeads");
  refused(
      mlp, [](Graph& g) { g.nodes[4].inputs = {2, 2}; },
      "gated_unit at layers.0.act: its output must be half as wide as its input");
  refused(attends, [&](Graph& g) { rope(g).table = 1; }, "rope at rope: the graph has no rotation of its number");
  refused(
      mlp, [](Graph& g) { std::swap(g.nodes[2], g.nodes[4]); },
      "gated_unit at layers.0.act: value 2 is read before it is made");
  refused(mlp, [](Graph& g) { g.nodes.pop_back(); }, "the graph must end in lm_head");
  refused(
      mlp,
      [](Graph& g) {
        Node early = g.nodes.back();
        early.path = "early";
        g.nodes.insert(g.nodes.end() - 1, early);
      },
      "lm_head at early: must be the last node");
}

TEST("a value that rope overwrites has no other readers") {
  Graph graph = attention_graph(true);
  check_graph(graph);
  CHECK_THROWS(make_plan(graph, {}, options(Mode::forward)), "its input, which it overwrites, has other readers");
}

namespace {

/// The same with queries that are normalized by `width` columns before they are rotated.
Graph by_head(int64_t width) {
  Graph graph = attention_graph();
  const auto rope =
      std::find_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.op == Op::rope; });
  Node norm;
  norm.op = Op::rms_norm;
  norm.path = "q_norm";
  norm.inputs = rope->inputs;
  norm.weight = static_cast<int>(graph.weights.size());
  norm.eps = 1e-5f;
  norm.out = rope->inputs[0] = static_cast<int>(graph.values.size());
  graph.weights.push_back({"q_norm", 1, width, WeightKind::vector});
  graph.values.push_back({kHidden, ValueType::operand});
  graph.nodes.insert(rope, norm);
  return graph;
}

const Step& step_of(const Plan& plan, const Graph& graph, const std::string& kind, const std::string& path) {
  const auto found = std::find_if(plan.steps.begin(), plan.steps.end(), [&](const Step& s) {
    return is(s, kind) && graph.nodes[static_cast<size_t>(s.node)].path == path;
  });
  REQUIRE(found != plan.steps.end());
  return *found;
}

}  // namespace

TEST("a norm of an operand takes groups of columns that divide it") {
  Graph right = by_head(8);
  check_graph(right);
  for (const int64_t width : {5, 64}) {
    Graph wrong = by_head(width);
    CHECK_THROWS(check_graph(wrong),
                 "rms_norm at q_norm: weight q_norm is [1, " + std::to_string(width) + "] but [1, 32]");
  }
}

TEST("a norm by head stands in its input's place, and a step keeps no more for it than its statistics") {
  Graph graph = by_head(8), plain = attention_graph();
  check_graph(graph);
  check_graph(plain);
  const Plan forward = make_plan(graph, {}, options(Mode::forward));
  const Step& normed = step_of(forward, graph, "rms_norm", "q_norm");
  CHECK_EQ(normed.buffers[slot::x], normed.buffers[slot::y]);
  CHECK_EQ(forward.buffers[static_cast<size_t>(normed.buffers[slot::aux])].cols, 4);

  const AdapterSpec spec = lora(graph);
  const Plan train = make_plan(graph, {&spec}, options(Mode::train));
  const Step& back = step_of(train, graph, "rms_norm_backward", "q_norm");
  CHECK_EQ(back.buffers[slot::dx], back.buffers[slot::dy]);
  // At the end of the forward pass: what the plain model keeps, and a number for each head of a token.
  const auto kept = [&](const Plan& plan) {
    const auto last =
        std::find_if(plan.steps.begin(), plan.steps.end(), [](const Step& s) { return s.phase != Phase::forward; });
    const auto end = static_cast<int>(last - plan.steps.begin());
    int64_t bytes = 0;
    for (const Buffer& buffer : plan.buffers)
      if (buffer.first >= 0 && buffer.first < end && buffer.last >= end) bytes += buffer.bytes;
    return bytes;
  };
  const AdapterSpec spec_plain = lora(plain);
  CHECK_EQ(kept(train), kept(make_plan(plain, {&spec_plain}, options(Mode::train))) + 128 * 4 * 4);
  CHECK_EQ(count(train, "rope", Phase::recompute), 1);
}

TEST("sizes that do not fit 64 bits are refused, not wrapped around") {
  const Graph graph = blocks(1);
  PlanOptions huge = options(Mode::evaluate);
  huge.tokens = int64_t{1} << 53;
  CHECK_THROWS(make_plan(graph, {}, huge), "a capacity of 9007199254740992 is out of range");
  Graph wide = blocks(1);
  wide.values[1].cols = int64_t{1} << 40;
  wide.node_of_path.clear();
  wide.weight_of_name.clear();
  CHECK_THROWS(check_graph(wide), "1099511627776 wide");
  AdapterSpec spec;
  spec.parameters.push_back({"A", int64_t{1} << 32, int64_t{1} << 32, true});
  CHECK_THROWS(check_adapter(spec), "A is [4294967296, 4294967296]");
}

TEST("a weight that kernels read as plain fp32 is declared as a vector, and an embedding as a table") {
  for (const auto& [weight, kind, message] : {std::tuple{1, WeightKind::matrix, "layers.0.norm must be declared"},
                                              std::tuple{0, WeightKind::matrix, "declared as a table"},
                                              std::tuple{2, WeightKind::vector, "layers.0.gate must not be"}}) {
    Graph graph = blocks(1);
    graph.weights[static_cast<size_t>(weight)].kind = kind;
    graph.node_of_path.clear();
    graph.weight_of_name.clear();
    CHECK_THROWS(check_graph(graph), message);
  }
}

TEST("the workspace of an input gradient holds the widest of the dropped adapters, whatever their order") {
  const Graph graph = blocks(2);
  AdapterSpec spec = lora(graph);
  const int64_t large = 3000;  // long enough for its product to be summed in parts
  const auto arena = [&](const std::string& widest) {
    AdapterSpec wide = spec;
    for (TermSpec& term : wide.terms) {
      term.numbers["dropout"] = 0.1;
      if (term.target != widest) continue;
      wide.parameters[static_cast<size_t>(term.parameters["a"])].rows =
          wide.parameters[static_cast<size_t>(term.parameters["b"])].cols = large;
      term.numbers["rank"] = large;
    }
    check_adapter(wide);
    const Plan plan = make_plan(graph, {&wide}, options(Mode::train));
    const auto shared = std::find_if(plan.steps.begin(), plan.steps.end(), [](const Step& s) {
      return is(s, "linear_input_gradient") && s.terms.size() == 2;
    });
    return shared == plan.steps.end() ? int64_t{0} : plan.buffers[static_cast<size_t>(shared->workspace)].bytes;
  };
  CHECK(arena("layers.1.gate") > 0);
  CHECK_EQ(arena("layers.1.gate"), arena("layers.1.up"));
}

TEST("a gradient that a linear has yet to read is not added to in place") {
  Graph graph = blocks(2);
  // One more linear reads the first block's unit at the end. All residuals share a gradient buffer with its output, and
  // the second block's norm would add to that before the first block, where the linear's input gradient is formed.
  const auto last_norm = graph.nodes.end() - 2;
  Node again;
  again.op = Op::linear;
  again.path = "again";
  again.inputs = {std::find_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) {
                    return n.path == "layers.0.act";
                  })->out};
  again.residual = last_norm->inputs[0];
  again.weight = static_cast<int>(graph.weights.size());
  again.out = last_norm->inputs[0] = static_cast<int>(graph.values.size());
  graph.weights.push_back({"again", kHidden, kWidth, WeightKind::matrix});
  graph.values.push_back({kHidden, ValueType::residual});
  graph.nodes.insert(last_norm, again);
  graph.node_of_path.clear();
  graph.weight_of_name.clear();
  check_graph(graph);
  const AdapterSpec spec = lora(graph);
  CHECK_THROWS(make_plan(graph, {&spec}, options(Mode::train)),
               "layers.1.norm: its gradient would be added to one that again");
  CHECK(make_plan(graph, {}, options(Mode::evaluate)).arena_bytes > 0);
}

TEST("logits are formed for as many tiles of rows as fit, and one at least") {
  const Graph graph = blocks(2);
  const AdapterSpec spec = lora(graph);
  const int64_t row = kVocab * 4;
  const auto planned = [&](int64_t bytes) {
    PlanOptions o = options(Mode::train);
    o.logits_bytes = bytes;
    return make_plan(graph, {&spec}, o);
  };
  const std::pair<int64_t, int64_t> expected[] = {
      {1, 16}, {31 * row, 16}, {33 * row, 32}, {95 * row, 64}, {1000 * row, 128}};
  for (const auto& [bytes, rows] : expected) CHECK_EQ(planned(bytes).head_chunk, rows);
  CHECK_EQ(make_plan(graph, {&spec}, options(Mode::train)).head_chunk, 128);
  CHECK_THROWS(planned(0), "logitsBytes is 0; expected at least 1");
}

namespace {

/// A device on which one kernel wants much.
struct Greedy final : KernelSizes {
  explicit Greedy(int64_t wanted) : bytes(wanted) {}
  int64_t workspace(const Kernel& kernel) const override { return std::holds_alternative<GemmNn>(kernel) ? bytes : 0; }
  int64_t bytes;
};

std::vector<StorageFormat> f32_of(const Graph& graph) { return {graph.weights.size(), StorageFormat::f32}; }

}  // namespace

TEST("a kernel that asks for workspace that no plan has fails when it is planned") {
  const Graph graph = blocks(2);
  const AdapterSpec spec = lora(graph);
  CHECK_THROWS(lowrank::make_plan(Greedy(int64_t{1} << 45), graph, {&spec}, options(Mode::train)),
               "would take 35184372088832 bytes; lower the plan's capacity");
}

TEST("a step cannot take workspace that it was not planned with") {
  const Graph graph = blocks(2);
  const AdapterSpec spec = lora(graph);
  const Plan plan = lowrank::make_plan(Greedy(640), graph, {&spec}, options(Mode::train));
  const auto run_on = [&](const KernelSizes& sizes) {
    NullDevice device(sizes);
    Run run(graph, plan);
    run.device = &device;
    run.arena = Ptr<std::byte>(kNowhere);
    PlannedAdapter adapter(spec);
    AdapterRun* const adapters[] = {&adapter};
    run.adapters = adapters;
    for (const Step& step : plan.steps) run.execute(step);
    return device.counts.kernels.at("gemm_nn").workspace_bytes;
  };
  CHECK_EQ(run_on(Greedy(640)), 640);
  CHECK_THROWS(run_on(Greedy(704)), "a step asks for 704 bytes of workspace where 640 are left");
}

TEST("a dry run counts what a plan launches, and what the host sends and reads") {
  const Graph graph = blocks(3);
  const AdapterSpec spec = lora(graph);
  for (const bool again : {false, true}) {
    const PlanOptions how = options(Mode::train, again);
    const Plan plan = make_plan(graph, {&spec}, how);
    const cpu::CpuSizes sizes(1);
    NullDevice device(sizes, held_weights(graph, f32_of(graph)));
    const auto [work, update] = dry_run(graph, {spec}, {{"train", how}}, "train", device);
    const int units = 3 + count(plan, "gated_unit", Phase::recompute);
    CHECK_EQ(work.kernels.at("gated_unit").launches, units);
    CHECK_EQ(work.kernels.at("gated_unit").bytes_moved, units * 3 * 128 * kWidth * 4);
    CHECK_EQ(work.kernels.at("cross_entropy").launches, 1);
    CHECK_EQ(work.kernels.count("adamw"), size_t{0});
    CHECK_EQ(device.allocated.at(Category::activations), plan.arena_bytes);
    CHECK_EQ(device.allocated.at(Category::adapters), spec.elements * 4);
    CHECK_EQ(device.allocated.at(Category::optimizer), 2 * spec.trained_elements * 4);
    CHECK_EQ(work.uploaded, 4 * 128 * 4);  // tokens, positions, rows of the head, labels
    CHECK_EQ(work.downloaded.size(), size_t{1});
    CHECK_EQ(work.downloaded.at("losses"), 128 * 4);
    CHECK_EQ(work.stashed, 0);
    CHECK_EQ(update->kernels.at("adamw").launches, 1);
    CHECK_EQ(update->kernels.at("adamw").bytes_moved, 7 * spec.trained_elements * 4);
    CHECK_EQ(update->downloaded.size(), size_t{1});
    CHECK_EQ(update->downloaded.at("gradient norms"), static_cast<int64_t>(spec.parameters.size()) * 8);
  }
}

TEST("a dry run of offloaded activations sends each to the stash and fetches it") {
  const Graph graph = blocks(4);
  const AdapterSpec spec = lora(graph);
  const cpu::CpuSizes sizes(1);
  NullDevice device(sizes);
  const auto work = dry_run(graph, {spec}, {{"train", offloading()}}, "train", device).micro_batch;
  CHECK_EQ(work.stashed, make_plan(graph, {&spec}, offloading()).offloaded_bytes);
  CHECK_EQ(work.fetched, work.stashed);
  CHECK(work.stashed > 0);
}

TEST("updates in the backward pass are counted with the micro-batch") {
  const Graph graph = blocks(2);
  AdapterSpec spec = lora(graph);
  spec.state.in_backward = true;
  const cpu::CpuSizes sizes(1);
  NullDevice device(sizes);
  const auto [work, update] = dry_run(graph, {spec}, {{"train", options(Mode::train)}}, "train", device);
  CHECK_EQ(work.kernels.at("adamw").launches, static_cast<int64_t>(spec.parameters.size()));
  CHECK(!update);
}
