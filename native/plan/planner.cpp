#include "plan/planner.h"

#include <algorithm>

#include "core/error.h"
#include "core/math.h"
#include "plan/run.h"
#include "plan/updates.h"

namespace lowrank {
namespace {

constexpr int64_t kPage = 4096;  // what is offloaded begins with one
constexpr int64_t kMostCount = int64_t{1} << 30;

}  // namespace

Planner::Planner(const OpTable& ops, const KernelSizes& sizes, const Graph& graph,
                 const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options, Plan sites)
    : graph_(graph),
      ops_(ops),
      adapters_(adapters),
      options_(options),
      null_(sizes),
      plan_(std::move(sites)),
      buffers_(plan_.buffers, options_, sizes.joins_operands()) {
  plan_.options = options;
  plan_.copies = resolve_copies(graph, adapters);
  for (const AdapterSpec* spec : adapters) planned_.emplace_back(*spec);
  for (PlannedAdapter& adapter : planned_) runs_.push_back(&adapter);
}

Plan Planner::build() {
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
    discard();
    for (int i = static_cast<int>(nodes) - 1; i >= 0; --i) backward(i);
    if (adapters_[0]->state.in_backward) place_updates(*adapters_[0], plan_);
  }
  find_lifetimes();
  plan_.arena_bytes = place_buffers(plan_.buffers);
  find_peak();
  return std::move(plan_);
}

void Planner::discard() {
  for (size_t v = 0; v < kept_.size(); ++v)
    if (!kept_[v]) value_buffer_[v] = -1;
  for (size_t n = 0; n < part_.size(); ++n)
    if (in_recomputed_segment(graph_.nodes[n]) && !keeps_attention(graph_.nodes[n])) part_[n] = -1;
}

void Planner::check_options() const {
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

void Planner::place_states() {
  for (const Node& node : graph_.nodes) {
    plan_.state_offsets.push_back(plan_.state_bytes);
    if (const auto bytes = rules(node).state_bytes; bytes != nullptr && options_.mode == Mode::forward)
      plan_.state_bytes += bytes(graph_, node, options_);
  }
}

// ---- answers to operations ----------------------------------------------------------------------------------------

bool Planner::overwritten(int v) const {
  const auto& readers = graph_.consumers[v];
  return std::any_of(readers.begin(), readers.end(), [&](int c) { return rules(graph_.nodes[c]).overwrites; });
}

bool Planner::must_stay(int v) const {
  const OpRules& rule = rules(graph_.nodes[graph_.producer[v]]);
  return rule.keeps_output != nullptr && rule.keeps_output(*this, graph_.producer[v]);
}

bool Planner::read_dense(int v) const {
  const auto& readers = graph_.consumers[v];
  return std::any_of(readers.begin(), readers.end(), [&](int c) {
    const OpRules& rule = rules(graph_.nodes[c]);
    return rule.reads_dense != nullptr && rule.reads_dense(graph_, graph_.nodes[c]);
  });
}

int Planner::materialize(int v) {
  if (value_buffer_[v] >= 0) return value_buffer_[v];
  if (offset_[v] >= 0) {
    move(kReload, Phase::recompute, v);
    return value_buffer_[v];
  }
  const int index = graph_.producer[v];
  const Node& node = graph_.nodes[index];
  for (const int input : node.inputs) materialize(input);
  if (node.residual >= 0) materialize(node.residual);
  forward(index, Phase::recompute);
  return value_buffer_[v];
}

int Planner::materialize_part(int node) {
  if (part_[node] < 0) {
    forget(graph_.nodes[node].out);
    materialize(graph_.nodes[node].out);
  }
  return part_[node];
}

int Planner::hidden(int at, int64_t width) {
  if (part_[at] < 0)
    part_[at] = add_buffer(node(at).path + " x A^T", Category::activations, operand(), RowKind::tokens, width);
  return part_[at];
}

int Planner::trained_weight(int weight) const {
  if (!training() || weight < 0 || plan_.copies[weight].adapter != 0) return -1;
  const int parameter = plan_.copies[weight].parameter;
  return adapters_[0]->trains(parameter) ? parameter : -1;
}

int Planner::make_gradient(int v, const std::string& name) {
  if (gradient_[v] >= 0) fail("UNSUPPORTED", name, ": the value already has a gradient");
  return gradient_[v] = value_like(v, name);
}

void Planner::give_gradient(int v, int buffer) {
  if (!needs_gradient_[v]) return;
  if (gradient_[v] >= 0) fail("UNSUPPORTED", "value ", v, " already has a gradient");
  gradient_[v] = buffer;
}

void Planner::start_gradient(int v, int node) {
  if (gradient_[v] >= 0) return;
  Step zero = step(kZero, Phase::backward, node);
  const int made = zero[PlanRole::zeroed] = make_gradient(v, "gradient of " + graph_.nodes[node].path + " input");
  zero.writes = {made};
  push(std::move(zero));
}

int Planner::make_gradient_part(Step& step, int v, const std::string& maker) {
  if (!needs_gradient_[v]) return -1;
  step.accumulate = gradient_part_[v] >= 0;
  if (!step.accumulate)
    gradient_part_[v] = add_buffer("gradient of " + graph_.nodes[step.node].path + " input by " + maker,
                                   Category::activations, DType::f32, RowKind::tokens, graph_.values[v].cols);
  keep_dense(gradient_part_[v]);
  step.writes.push_back(gradient_part_[v]);
  return gradient_part_[v];
}

void Planner::expect_unread(int buffer, const std::string& path) const {
  for (const Pending& pending : pending_)
    for (const GradientTerm& share : pending.shares)
      if (share.dy == buffer)
        fail("UNSUPPORTED", path, ": its gradient would be added to one that ", graph_.nodes[share.node].path,
             " has not read yet; this order of nodes is not supported");
}

void Planner::defer(int v, const GradientTerm& share, Emit emit) {
  pending_[v].shares.push_back(share);
  pending_[v].emit = emit;
}

Step Planner::step(const StepKind& kind, Phase phase, int node) const {
  Step made;
  made.kind = &kind;
  made.phase = phase;
  made.node = node;
  return made;
}

void Planner::touch(Step& step, int node) const {
  for (const int parameter : trained_at(node)) step.touches.push_back(parameter);
}

double Planner::products(int linear) const {
  return static_cast<double>(options_.tokens) *
         (static_cast<double>(cols(node(linear).inputs[0])) * static_cast<double>(cols(node(linear).out)));
}

void Planner::read_weight(Step& step, int linear) const {
  const int weight = node(linear).weight;
  if (plan_.copies[weight].adapter < 0) step.weights.push_back(weight);
  step.multiply_adds += products(linear);
  touch(step, linear);
}

void Planner::push(Step step) {
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

// ---- what needs a gradient, and what is kept
// -------------------------------------------------------------------------

std::vector<int> Planner::trained_at(int node) const {
  if (!training()) return {};
  std::vector<int> found;
  if (!plan_.sites[node].empty()) found = plan_.sites[node][0].trained;
  for (const int weight : {graph_.nodes[node].weight, graph_.nodes[node].bias})
    if (const int parameter = trained_weight(weight); parameter >= 0) found.push_back(parameter);
  return found;
}

bool Planner::keeps_attention(const Node& node) const { return options_.keep_attention && rules(node).quadratic; }

void Planner::find_gradients() {
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

void Planner::find_kept() {
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
void Planner::find_offloaded() {
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

// ---- steps
// -----------------------------------------------------------------------------------------------------------

int Planner::value_like(int v, const std::string& name) {
  const int made = add_buffer(name, Category::activations, dtype(v), RowKind::tokens, graph_.values[v].cols);
  if (graph_.values[v].type == ValueType::residual) keep_dense(made);
  return made;
}

void Planner::make_inputs() {
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
  if (options_.counts_hits) plan_.head_hits = add_buffer("head hits", Category::loss, DType::f32, RowKind::head, 1);
}

void Planner::backward(int index) {
  const Node& node = graph_.nodes[index];
  if (node.out < 0 || !needs_gradient_[node.out]) return;
  flush(node.out);
  const int dy = gradient_[node.out];
  if (dy < 0) return;  // nothing downstream depends on it
  if (rules(node).backward != nullptr) rules(node).backward(*this, index, dy);
}

void Planner::flush(int v) {
  if (pending_[v].shares.empty()) return;
  std::vector<GradientTerm> shares;
  shares.swap(pending_[v].shares);
  pending_[v].emit(*this, v, std::move(shares));
}

void Planner::move(const StepKind& kind, Phase phase, int v) {
  Step made = step(kind, phase, graph_.producer[v]);
  made.offset = offset_[v];
  if (&kind == &kOffload) {
    made[PlanRole::offloaded] = value_buffer_[v];
  } else {
    made[PlanRole::reloaded] = make_value(v, graph_.nodes[made.node].path + " reloaded");
    made.writes = {value_buffer_[v]};
  }
  push(std::move(made));
}

// ---- lifetimes
// -------------------------------------------------------------------------------------------------------

void Planner::find_lifetimes() {
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    plan_.steps[i].each_buffer([&](int id) {
      Buffer& buffer = plan_.buffers[id];
      if (buffer.first < 0) buffer.first = static_cast<int>(i);
      buffer.last = static_cast<int>(i);
    });
  }
  buffers_.live_with_inner();
  for (const int id : {plan_.tokens, plan_.positions, plan_.rope_rows, plan_.head_index, plan_.head_labels,
                       plan_.head_losses, plan_.head_weights, plan_.head_lse, plan_.head_hits}) {
    if (id < 0) continue;
    plan_.buffers[id].first = 0;
    plan_.buffers[id].last = static_cast<int>(plan_.steps.size()) - 1;
  }
}

void Planner::find_peak() {
  const std::vector<int64_t> live = plan_.live_bytes();
  plan_.peak_step = static_cast<int>(std::max_element(live.begin(), live.end()) - live.begin());
}

}  // namespace lowrank
