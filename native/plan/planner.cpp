#include "plan/planner.h"

#include <algorithm>

#include "core/error.h"
#include "core/math.h"
#include "device/null.h"
#include "plan/buffers.h"
#include "plan/planned_adapter.h"
#include "plan/run.h"
#include "plan/updates.h"

namespace lowrank {
namespace {

constexpr int64_t kPage = 4096;  // what is offloaded begins with one
constexpr int64_t kMostCount = int64_t{1} << 30;

/// Builds the step list. The forward pass is the graph in order. The backward pass visits it in reverse; whatever
/// forward value it needs and was not kept is recomputed on demand, so recompute segments are only a rule about
/// keeping.
class Builder final : public Planner {
 public:
  Builder(const OpTable& ops, const KernelSizes& sizes, const Graph& graph,
          const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options, Plan plan)
      : graph_(graph),
        ops_(ops),
        adapters_(adapters),
        options_(options),
        null_(sizes),
        plan_(std::move(plan)),
        buffers_(plan_.buffers, options_, sizes.joins_operands()) {
    plan_.options = options;
    plan_.copies = resolve_copies(graph, adapters);
    for (const AdapterSpec* spec : adapters) planned_.emplace_back(*spec);
    for (PlannedAdapter& adapter : planned_) runs_.push_back(&adapter);
  }

  Plan build() {
    check_options();
    const size_t values = graph_.values.size(), nodes = graph_.nodes.size();
    value_buffer_.assign(values, -1);
    part_.assign(nodes, -1);
    kept_part_.assign(nodes, -1);
    gradient_.assign(values, -1);
    pending_.assign(values, {});
    offset_.assign(values, -1);
    gradient_part_.assign(values, -1);
    place_states();
    find_gradients();
    find_kept();
    make_inputs();
    for (size_t i = 0; i < nodes; ++i) {
      forward(static_cast<int>(i), Phase::forward);
      if (const int v = graph_.nodes[i].out; v >= 0 && offset_[v] >= 0) move(kOffload, Phase::forward, v);
    }
    if (training()) {
      // Only kept values survive the forward pass.
      for (size_t v = 0; v < values; ++v)
        if (!kept_[v]) value_buffer_[v] = -1;
      for (size_t n = 0; n < nodes; ++n)
        if (in_recomputed_segment(graph_.nodes[n]) && !keeps_attention(graph_.nodes[n])) part_[n] = -1;
      for (int i = static_cast<int>(nodes) - 1; i >= 0; --i) backward(i);
      if (adapters_[0]->state.in_backward) place_updates(*adapters_[0], plan_);
    }
    find_lifetimes();
    plan_.arena_bytes = place_buffers(plan_.buffers);
    find_peak();
    return std::move(plan_);
  }

  // ---- answers to operations --------------------------------------------------------------------------------------

  const Graph& graph() const override { return graph_; }
  const PlanOptions& options() const override { return options_; }
  const Plan& plan() const override { return plan_; }
  const std::vector<AdapterSite>& sites(int node) const override { return plan_.sites[node]; }

  int value(int v) const override { return value_buffer_[v]; }
  int make_value(int v, const std::string& name) override { return value_buffer_[v] = value_like(v, name); }
  void place_value(int v, int buffer) override { value_buffer_[v] = buffer; }
  void forget(int v) override { value_buffer_[v] = -1; }
  bool may_overwrite(int value, int node, Phase phase) const override {
    return phase == Phase::forward && !kept_[value] && graph_.consumers[value].back() == node;
  }
  bool overwritten(int v) const override {
    const auto& readers = graph_.consumers[v];
    return std::any_of(readers.begin(), readers.end(), [&](int c) { return rules(graph_.nodes[c]).overwrites; });
  }
  bool must_stay(int v) const override {
    const OpRules& rule = rules(graph_.nodes[graph_.producer[v]]);
    return rule.keeps_output != nullptr && rule.keeps_output(*this, graph_.producer[v]);
  }
  bool runs_again(int node) const override {
    return in_recomputed_segment(graph_.nodes[node]) && !survives(graph_.nodes[node].out);
  }
  int& part(int node) override { return part_[node]; }
  int& kept_part(int node) override { return kept_part_[node]; }
  int materialize_part(int node) override {
    if (part_[node] < 0) {
      forget(graph_.nodes[node].out);
      materialize(graph_.nodes[node].out);
    }
    return part_[node];
  }

  int materialize(int value) override {
    if (value_buffer_[value] >= 0) return value_buffer_[value];
    if (offset_[value] >= 0) {
      move(kReload, Phase::recompute, value);
      return value_buffer_[value];
    }
    const int index = graph_.producer[value];
    const Node& node = graph_.nodes[index];
    for (const int v : node.inputs) materialize(v);
    if (node.residual >= 0) materialize(node.residual);
    forward(index, Phase::recompute);
    return value_buffer_[value];
  }

  int trained_weight(int weight) const override {
    if (!training() || weight < 0 || plan_.copies[weight].adapter != 0) return -1;
    const int parameter = plan_.copies[weight].parameter;
    return adapters_[0]->trains(parameter) ? parameter : -1;
  }
  bool needs_gradient(int v) const override { return needs_gradient_[v]; }
  int gradient(int v) const override { return gradient_[v]; }
  int gradient_part(int v) const override { return gradient_part_[v]; }
  void make_gradient_part(Step& step, int v, const std::string& maker) override {
    if (!needs_gradient_[v]) return;
    step.accumulate = gradient_part_[v] >= 0;
    if (!step.accumulate)
      gradient_part_[v] = add_buffer("gradient of " + graph_.nodes[step.node].path + " input by " + maker,
                                     Category::activations, DType::f32, RowKind::tokens, graph_.values[v].cols);
    step.dx = gradient_part_[v];
    keep_dense(step.dx);
    step.writes.push_back(step.dx);
  }
  int make_gradient(int v, const std::string& name) override {
    if (gradient_[v] >= 0) fail("UNSUPPORTED", name, ": the value already has a gradient");
    return gradient_[v] = value_like(v, name);
  }
  void give_gradient(int v, int buffer) override {
    if (!needs_gradient_[v]) return;
    if (gradient_[v] >= 0) fail("UNSUPPORTED", "value ", v, " already has a gradient");
    gradient_[v] = buffer;
  }
  /// Adding to a gradient in place must not change what others still have to read; a residual's gradient is the same
  /// buffer as that of the linear that added it.
  void expect_unread(int buffer, const std::string& path) const override {
    for (const Pending& pending : pending_)
      for (const GradientTerm& share : pending.shares)
        if (share.dy == buffer)
          fail("UNSUPPORTED", path, ": its gradient would be added to one that ", graph_.nodes[share.node].path,
               " has not read yet; this order of nodes is not supported");
  }
  void defer(int v, const GradientTerm& share, Emit emit) override {
    pending_[v].shares.push_back(share);
    pending_[v].emit = emit;
  }

  void touch(Step& step, int node) const override {
    for (const int parameter : trained_at(node)) step.touches.push_back(parameter);
  }
  int add_buffer(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) override {
    return buffers_.add(name, category, dtype, rows, cols);
  }
  bool joins_operands() const override { return null_.sizes().joins_operands(); }
  void lay_beside(const std::string& name, const std::vector<int>& operands) override {
    buffers_.lay_beside(name, operands);
  }
  int tail(int buffer, int64_t cols) override { return buffers_.tail(buffer, cols); }
  void keep_dense(int buffer) override { buffers_.keep_dense(buffer); }
  bool read_dense(int v) const override {
    const auto& readers = graph_.consumers[v];
    return std::any_of(readers.begin(), readers.end(), [&](int c) {
      const OpRules& rule = rules(graph_.nodes[c]);
      return rule.reads_dense != nullptr && rule.reads_dense(graph_, graph_.nodes[c]);
    });
  }
  void set_head_chunk(int64_t rows) override { plan_.head_chunk = rows; }

  void push(Step step) override {
    Layout room;
    Run run(graph_, plan_);
    run.device = &null_;
    run.room = &room;
    run.counting = true;
    run.adapters = runs_;
    run.arena = run.kv_cache = Ptr<std::byte>(kNowhere);
    run.ropes = Ptr<float>(kNowhere);
    step.kind->run(run, step);
    if (room.bytes() > 0)  // the last buffer that a step makes
      step.workspace = add_buffer("workspace " + graph_.nodes[step.node].path, Category::workspace, DType::u8,
                                  RowKind::fixed, room.bytes());
    for (std::vector<int>* list : {&step.touches, &step.adds}) {
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    plan_.steps.push_back(std::move(step));
  }

 private:
  const OpRules& rules(const Node& node) const { return *ops_[static_cast<size_t>(node.op)]; }

  void place_states() {
    for (const Node& node : graph_.nodes) {
      plan_.state_offsets.push_back(plan_.state_bytes);
      if (const auto bytes = rules(node).state_bytes; bytes != nullptr && options_.mode == Mode::forward)
        plan_.state_bytes += bytes(graph_, node, options_);
    }
  }

  void check_options() const {
    const auto positive = [](const char* name, int64_t value) {
      if (value <= 0) fail("CONFIG", "plan: ", name, " is ", value, "; expected at least 1");
    };
    positive("tokens", options_.tokens);
    positive("sequences", options_.sequences);
    positive("headRows", options_.head_rows);
    positive("logitsBytes", options_.logits_bytes);
    if (options_.mode == Mode::forward) positive("kvCapacity", options_.kv_capacity);
    // Kernels count tokens in 32 bits.
    for (const int64_t count : {options_.tokens, options_.sequences, options_.head_rows, options_.kv_capacity})
      if (count > kMostCount) fail("CONFIG", "plan: a capacity of ", count, " is out of range; expected at most 2^30");
    if (training() && adapters_.size() != 1)
      fail("CONFIG", "plan: training takes exactly one adapter, not ", adapters_.size());
    if (training() && (!adapters_[0]->trainable || adapters_[0]->trained_elements == 0))
      fail("CONFIG", "plan: the adapter has nothing to train");
    if (options_.offload && !(training() && options_.recompute))
      fail("CONFIG", "plan: activation offloading requires training with gradient checkpointing");
    if (options_.row_weights && !training()) fail("CONFIG", "plan: weights of rows require training");
    if (options_.row_weights && adapters_[0]->by_example())
      fail("CONFIG", "plan: weights of rows do not go with private training by example");
    if (options_.two_passes && !options_.row_weights) fail("CONFIG", "plan: two passes require weights of rows");
    if (options_.keep_attention && !(training() && options_.recompute))
      fail("CONFIG", "plan: keeping attention requires training with gradient checkpointing");
  }

  // ---- what needs a gradient, what is kept ------------------------------------------------------------------------

  /// Parameters of the adapter that train at a node: of its terms, and copies of the node's weights.
  std::vector<int> trained_at(int node) const {
    if (!training()) return {};
    std::vector<int> found;
    if (!plan_.sites[node].empty()) found = plan_.sites[node][0].trained;
    for (const int weight : {graph_.nodes[node].weight, graph_.nodes[node].bias})
      if (const int parameter = trained_weight(weight); parameter >= 0) found.push_back(parameter);
    return found;
  }

  void find_gradients() {
    needs_gradient_.assign(graph_.values.size(), false);
    if (!training()) return;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.out < 0) continue;
      bool needs = rules(node).differentiated || !trained_at(static_cast<int>(i)).empty();
      for (const int v : node.inputs) needs = needs || needs_gradient_[v];
      if (node.residual >= 0) needs = needs || needs_gradient_[node.residual];
      needs_gradient_[node.out] = needs;
    }
  }

  /// The last block is never recomputed: its activations are consumed as soon as they are made.
  bool in_recomputed_segment(const Node& node) const {
    return options_.recompute && node.segment >= 0 && node.segment != graph_.last_segment;
  }

  /// Attention is the one part of a block whose cost grows with the square of the tokens.
  bool keeps_attention(const Node& node) const { return options_.keep_attention && rules(node).quadratic; }

  void find_kept() {
    kept_.assign(graph_.values.size(), false);
    if (!training()) return;
    for (size_t v = 0; v < kept_.size(); ++v) {
      const Node& node = graph_.nodes[graph_.producer[v]];
      if (in_recomputed_segment(node)) {
        // Only what leaves the segment is kept: the residual stream at its end. And attention, where that is asked for.
        kept_[v] = keeps_attention(node) || std::any_of(graph_.consumers[v].begin(), graph_.consumers[v].end(),
                                                        [&](int c) { return graph_.nodes[c].segment != node.segment; });
      } else {
        // Norms and gated units cost one pass over memory to make again, so their outputs are never kept.
        kept_[v] = !rules(node).cheap;
      }
    }
    // A rotated value takes its input's place, so the input is gone either way. One that was cheap is rotated again.
    for (const Node& node : graph_.nodes) {
      if (!rules(node).overwrites) continue;
      kept_[node.inputs[0]] = false;
      if (rules(graph_.nodes[graph_.producer[node.inputs[0]]]).cheap) kept_[node.out] = false;
    }
    if (options_.offload) find_offloaded();
  }

  /// The inputs of recomputed blocks go to the file as soon as they are made, and come back when their block does. That
  /// of the last block stays: its backward pass begins when its forward pass ends.
  void find_offloaded() {
    for (size_t v = 0; v < kept_.size(); ++v) {
      const auto& readers = graph_.consumers[v];
      if (!kept_[v] || graph_.values[v].type != ValueType::residual || readers.empty() ||
          !std::all_of(readers.begin(), readers.end(), [&](int c) { return in_recomputed_segment(graph_.nodes[c]); }))
        continue;
      kept_[v] = false;
      offset_[v] = plan_.offloaded_bytes;
      plan_.offloaded_bytes +=
          round_up(options_.tokens * graph_.values[v].cols * size_of(dtype(static_cast<int>(v))), kPage);
    }
  }
  /// True if a value of the forward pass exists in the backward pass without recomputation.
  bool survives(int value) const { return kept_[value] || offset_[value] >= 0; }

  // ---- steps ------------------------------------------------------------------------------------------------------

  int value_like(int value, const std::string& name) {
    const int made = add_buffer(name, Category::activations, dtype(value), RowKind::tokens, graph_.values[value].cols);
    if (graph_.values[value].type == ValueType::residual) keep_dense(made);
    return made;
  }

  void make_inputs() {
    plan_.tokens = add_buffer("tokens", Category::activations, DType::i32, RowKind::tokens, 1);
    plan_.positions = add_buffer("positions", Category::activations, DType::i32, RowKind::tokens, 1);
    plan_.rope_rows = plan_.positions;
    if (graph_.long_above() > 0)
      plan_.rope_rows = add_buffer("rope rows", Category::activations, DType::i32, RowKind::tokens, 1);
    plan_.head_index = add_buffer("head rows", Category::loss, DType::i32, RowKind::head, 1);
    plan_.head_labels = add_buffer("head labels", Category::loss, DType::i32, RowKind::head, 1);
    plan_.head_losses = add_buffer("head losses", Category::loss, DType::f32, RowKind::head, 1);
    if (options_.row_weights)
      plan_.head_weights = add_buffer("head weights", Category::loss, DType::f32, RowKind::head, 1);
    if (options_.two_passes)
      plan_.head_lse = add_buffer("head log-sum-exps", Category::loss, DType::f32, RowKind::head, 1);
  }

  void forward(int index, Phase phase) { rules(graph_.nodes[index]).forward(*this, index, phase); }

  void backward(int index) {
    const Node& node = graph_.nodes[index];
    if (node.out < 0 || !needs_gradient_[node.out]) return;
    flush(node.out);
    const int dy = gradient_[node.out];
    if (dy < 0) return;  // nothing downstream depends on it
    if (rules(node).backward != nullptr) rules(node).backward(*this, index, dy);
  }

  /// Emits the gradient that the readers of a value left until all of them had their turn.
  void flush(int value) {
    if (pending_[value].shares.empty()) return;
    std::vector<GradientTerm> shares;
    shares.swap(pending_[value].shares);
    pending_[value].emit(*this, value, std::move(shares));
  }

  /// Brings a value to the file, or back from it.
  void move(const StepKind& kind, Phase phase, int value) {
    Step made = step(kind, phase, graph_.producer[value]);
    made.offset = offset_[value];
    if (&kind == &kOffload) {
      made.x = value_buffer_[value];
    } else {
      made.y = make_value(value, graph_.nodes[made.node].path + " reloaded");
      made.writes = {made.y};
    }
    push(std::move(made));
  }

  // ---- lifetimes --------------------------------------------------------------------------------------------------

  void find_lifetimes() {
    for (size_t i = 0; i < plan_.steps.size(); ++i) {
      plan_.steps[i].each_buffer([&](int id) {
        Buffer& buffer = plan_.buffers[id];
        if (buffer.first < 0) buffer.first = static_cast<int>(i);
        buffer.last = static_cast<int>(i);
      });
    }
    buffers_.live_with_inner();
    for (const int id : {plan_.tokens, plan_.positions, plan_.rope_rows, plan_.head_index, plan_.head_labels,
                         plan_.head_losses, plan_.head_weights, plan_.head_lse}) {
      if (id < 0) continue;
      plan_.buffers[id].first = 0;
      plan_.buffers[id].last = static_cast<int>(plan_.steps.size()) - 1;
    }
  }

  void find_peak() {
    const std::vector<int64_t> live = plan_.live_bytes();
    plan_.peak_step = static_cast<int>(std::max_element(live.begin(), live.end()) - live.begin());
  }

  struct Pending {
    std::vector<GradientTerm> shares;
    Emit emit = nullptr;
  };

  const Graph& graph_;
  const OpTable& ops_;
  const std::vector<const AdapterSpec*>& adapters_;
  const PlanOptions options_;
  NullDevice null_;
  Plan plan_;
  Buffers buffers_;
  std::vector<PlannedAdapter> planned_;
  std::vector<AdapterRun*> runs_;
  std::vector<bool> needs_gradient_, kept_;
  std::vector<int64_t> offset_;     // where each value lies in the file, or -1
  std::vector<int> value_buffer_;   // where each forward value now lies, or -1
  std::vector<int> part_;           // statistics or the operand of a term of each node, or -1
  std::vector<int> kept_part_;      // see kept_part
  std::vector<int> gradient_;       // gradient of each value, or -1
  std::vector<int> gradient_part_;  // see gradient_part
  std::vector<Pending> pending_;    // by value: shares of its gradient that wait for the other readers
};

}  // namespace

Plan plan_with(const OpTable& ops, const KernelSizes& sizes, const Graph& graph,
               const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options, Plan sites) {
  return Builder(ops, sizes, graph, adapters, options, std::move(sites)).build();
}

}  // namespace lowrank
