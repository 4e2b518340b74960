#include "plan/plan.h"

#include <algorithm>
#include <numeric>
#include <sstream>

#include "adapters/hadamard.h"
#include "adapters/kronecker.h"
#include "backends/cpu/device.h"
#include "core/error.h"
#include "core/math.h"
#include "plan/kinds.h"
#include "plan/planner.h"
#include "plan/run.h"
#include "plan/updates.h"

namespace lowrank {
namespace {

constexpr int64_t kPage = 4096;  // what is offloaded begins with one
constexpr int64_t kMostCount = int64_t{1} << 30;
constexpr int64_t kMostBytes = int64_t{1} << 44;  // of one buffer: their sums stay within 64 bits

/// Builds the step list. The forward pass is the graph in order. The backward pass visits it in reverse; whatever
/// forward value it needs and was not kept is recomputed on demand, so recompute segments are only a rule about
/// keeping.
class Builder final : public Planner {
 public:
  Builder(const Graph& graph, const OpTable& ops, const std::vector<const AdapterSpec*>& adapters, const PlanOptions& options)
      : graph_(graph), ops_(ops), adapters_(adapters), options_(options), sizes_(options.threads), null_(sizes_) {
    plan_.options = options;
    plan_.slots = resolve_slots(graph, adapters);
    plan_.kroneckers = resolve_kroneckers(graph, adapters);
    plan_.copies = resolve_copies(graph, adapters);
  }

  Plan build() {
    check_options();
    operand_ = options_.precision == Precision::bf16 ? DType::bf16 : DType::f32;
    value_buffer_.assign(graph_.values.size(), -1);
    aux_buffer_.assign(graph_.nodes.size(), -1);
    product_.assign(graph_.nodes.size(), -1);
    gradient_.assign(graph_.values.size(), -1);
    pending_.assign(graph_.values.size(), {});
    offset_.assign(graph_.values.size(), -1);
    kronecker_gradient_.assign(graph_.values.size(), -1);
    find_gradients();
    find_kept();
    make_inputs();
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      forward(static_cast<int>(i), Phase::forward);
      if (const int v = graph_.nodes[i].out; v >= 0 && offset_[v] >= 0) move(kOffload, Phase::forward, v);
    }
    if (training()) {
      // Only kept values survive the forward pass.
      for (size_t v = 0; v < value_buffer_.size(); ++v)
        if (!kept_[v]) value_buffer_[v] = -1;
      for (size_t n = 0; n < aux_buffer_.size(); ++n)
        if (in_recomputed_segment(graph_.nodes[n]) && !keeps_attention(graph_.nodes[n])) aux_buffer_[n] = -1;
      for (int i = static_cast<int>(graph_.nodes.size()) - 1; i >= 0; --i) backward(i);
      if (adapters_[0]->state.in_backward) place_updates(*adapters_[0], plan_);
    }
    find_lifetimes();
    plan_.arena_bytes = place_buffers(plan_.buffers);
    find_peak();
    return std::move(plan_);
  }

  // ---- what operations may ask ------------------------------------------------------------------------------------

  const Graph& graph() const override { return graph_; }
  const PlanOptions& options() const override { return options_; }
  const Plan& plan() const override { return plan_; }
  int value(int v) const override { return value_buffer_[v]; }
  int make_value(int v, const std::string& name) override { return value_buffer_[v] = value_like(v, name); }
  void place_value(int v, int buffer) override { value_buffer_[v] = buffer; }
  void forget(int v) override { value_buffer_[v] = -1; }
  int& part(int node) override { return aux_buffer_[node]; }
  int materialize_part(int node) override {
    if (aux_buffer_[node] < 0) {
      forget(graph_.nodes[node].out);
      materialize(graph_.nodes[node].out);
    }
    return aux_buffer_[node];
  }
  bool must_stay(int v) const override { return scaled_output_serves(graph_.producer[v]); }
  int trained_weight(int weight) const override { return trains_weight(weight) ? plan_.copies[weight].parameter : -1; }
  bool needs_gradient(int v) const override { return needs_gradient_[v]; }
  int gradient(int v) const override { return gradient_[v]; }
  int make_gradient(int v, const std::string& name) override {
    if (gradient_[v] >= 0) fail("UNSUPPORTED", name, ": the value already has a gradient");
    return gradient_[v] = value_like(v, name);
  }
  void give_gradient(int v, int buffer) override {
    if (!needs_gradient_[v]) return;
    if (gradient_[v] >= 0) fail("UNSUPPORTED", "value ", v, " already has a gradient");
    gradient_[v] = buffer;
  }
  void set_head_chunk(int64_t rows) override { plan_.head_chunk = rows; }

  void touch(Step& step, int node) const override {
    if (!training()) return;
    const auto add = [&](std::initializer_list<int> parameters) {
      for (const int parameter : parameters)
        if (adapters_[0]->trains(parameter)) step.touches.push_back(parameter);
    };
    if (const LowRankSlot* s = slot(node)) add({s->a, s->b, s->d, s->b_gain, s->a2, s->b2, s->magnitude});
    if (const KroneckerSlot* s = kronecker(node)) add({s->c, s->c2, s->d, s->d2});
    for (const int weight : {graph_.nodes[node].weight, graph_.nodes[node].bias})
      if (trains_weight(weight)) step.touches.push_back(plan_.copies[weight].parameter);
  }

  void push(Step step) override {
    Layout room;
    Run run(graph_, plan_);
    run.device = &null_;
    run.room = &room;
    run.counting = true;
    run.arena = run.kv_cache = Ptr<std::byte>(kNowhere);
    run.cos = run.sin = Ptr<float>(kNowhere);
    step.kind->run(run, step);
    append(std::move(step), room.bytes());
  }

 private:
  /// Appends a step with so many bytes of workspace, the last buffer that it makes.
  void append(Step step, int64_t bytes) {
    if (bytes > 0)
      step.workspace = add_buffer("workspace " + graph_.nodes[step.node].path, Category::workspace, DType::u8, RowKind::fixed, bytes);
    for (std::vector<int>* list : {&step.touches, &step.adds}) {
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    plan_.steps.push_back(std::move(step));
  }

  void check_options() const {
    const auto positive = [](const char* name, int64_t value) {
      if (value <= 0) fail("CONFIG", "plan: ", name, " is ", value, "; expected at least 1");
    };
    positive("tokens", options_.tokens);
    positive("sequences", options_.sequences);
    positive("headRows", options_.head_rows);
    positive("threads", options_.threads);
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
      fail("CONFIG", "plan: what is kept between blocks is offloaded only in training that recomputes them");
    if (options_.keep_attention && !(training() && options_.recompute))
      fail("CONFIG", "plan: attention is kept apart only in training that recomputes blocks");
  }

  // ---- what needs a gradient, what is kept ------------------------------------------------------------------------

  const LowRankSlot* slot(int node) const {
    if (!training()) return nullptr;
    const int index = plan_.slots[0][node];
    return index < 0 ? nullptr : &adapters_[0]->slots[index];
  }
  const KroneckerSlot* kronecker(int node) const {
    if (!training()) return nullptr;
    const int index = plan_.kroneckers[0][node];
    return index < 0 ? nullptr : &adapters_[0]->kroneckers[index];
  }
  bool trains_kronecker(int node) const {
    const KroneckerSlot* s = kronecker(node);
    const AdapterSpec& spec = *adapters_[0];
    return s && (spec.trains(s->c) || spec.trains(s->c2) || spec.trains(s->d) || spec.trains(s->d2));
  }
  bool trains_a(const LowRankSlot* s) const { return s && (adapters_[0]->trains(s->a) || adapters_[0]->trains(s->a2)); }
  /// B or any gain: all come from the gradient of the folded matrix, which needs h.
  bool trains_folded(const LowRankSlot* s) const {
    return s && (adapters_[0]->trains(s->b) || adapters_[0]->trains(s->b2) || adapters_[0]->trains(s->d) ||
                 adapters_[0]->trains(s->b_gain));
  }
  /// The slot of a node whose change of the weight is made in full, or null.
  const LowRankSlot* formed_slot(int node) const {
    const LowRankSlot* s = slot(node);
    return s && forms_delta(*adapters_[0], *s, out_of(node), in_of(node), options_) ? s : nullptr;
  }
  int64_t in_of(int node) const { return graph_.values[graph_.nodes[node].inputs[0]].cols; }
  int64_t out_of(int node) const { return graph_.values[graph_.nodes[node].out].cols; }

  /// Whether an adapter scales the rows of this linear.
  bool has_magnitude(int node) const {
    for (size_t a = 0; a < adapters_.size(); ++a)
      if (const int s = plan_.slots[a][node]; s >= 0 && adapters_[a]->slots[s].magnitude >= 0) return true;
    return false;
  }
  /// Whether a slot with a magnitude drops inputs. The base's product is then taken of the dropped input as well, so that
  /// what is scaled and what is dropped belong together (as in PEFT and the authors' code).
  bool drops_base(const LowRankSlot* s) const { return s && s->magnitude >= 0 && s->dropout > 0; }
  bool trains_magnitude(const LowRankSlot* s) const { return s && adapters_[0]->trains(s->magnitude); }

  /// Whether a weight of the graph is trained, as a copy in the adapter.
  bool trains_weight(int weight) const {
    return training() && weight >= 0 && plan_.copies[weight].adapter == 0 &&
           adapters_[0]->trains(plan_.copies[weight].parameter);
  }

  void find_gradients() {
    needs_gradient_.assign(graph_.values.size(), false);
    if (!training()) return;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.out < 0) continue;
      const LowRankSlot* s = slot(static_cast<int>(i));
      bool needs = trains_a(s) || trains_folded(s) || trains_magnitude(s) || trains_kronecker(static_cast<int>(i)) ||
                   trains_weight(node.weight) || trains_weight(node.bias);
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
  bool keeps_attention(const Node& node) const { return options_.keep_attention && has(node, &OpRules::quadratic); }
  bool has(const Node& node, bool OpRules::*rule) const {
    const OpRules* rules = ops_[static_cast<size_t>(node.op)];
    return rules != nullptr && rules->*rule;
  }

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
        kept_[v] = !has(node, &OpRules::cheap);
      }
    }
    // A rotated value takes its input's place, so the input is gone either way.
    for (const Node& node : graph_.nodes)
      if (has(node, &OpRules::overwrites)) kept_[node.inputs[0]] = false;
    if (options_.offload) find_offloaded();
  }

  /// The inputs of recomputed blocks go to the file as soon as they are made, and come back when their block does. That of
  /// the last block stays: its backward pass begins when its forward pass ends.
  void find_offloaded() {
    for (size_t v = 0; v < kept_.size(); ++v) {
      const auto& readers = graph_.consumers[v];
      if (!kept_[v] || graph_.values[v].type != ValueType::residual || readers.empty() ||
          !std::all_of(readers.begin(), readers.end(), [&](int c) { return in_recomputed_segment(graph_.nodes[c]); }))
        continue;
      kept_[v] = false;
      offset_[v] = plan_.offloaded_bytes;
      plan_.offloaded_bytes += round_up(options_.tokens * graph_.values[v].cols * size_of(dtype_of(static_cast<int>(v))), kPage);
    }
  }
  /// Whether a value of the forward pass is there in the backward pass without being computed again.
  bool survives(int value) const { return kept_[value] || offset_[value] >= 0; }

  // ---- buffers ----------------------------------------------------------------------------------------------------

  int64_t row_capacity(RowKind rows) const {
    return rows == RowKind::tokens ? options_.tokens : rows == RowKind::head ? options_.head_rows : 1;
  }

  int add_buffer(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols) override {
    Buffer buffer{name, category, dtype, rows, cols};
    buffer.bytes = round_up(row_capacity(rows) * cols * size_of(dtype), 64);
    if (buffer.bytes > kMostBytes)
      fail("CONFIG", "plan: ", buffer.name, " would take ", buffer.bytes, " bytes; lower the plan's capacity");
    plan_.buffers.push_back(std::move(buffer));
    return static_cast<int>(plan_.buffers.size()) - 1;
  }

  DType dtype_of(int value) const { return graph_.values[value].type == ValueType::residual ? DType::f32 : operand_; }

  int value_like(int value, const std::string& name) {
    return add_buffer(name, Category::activations, dtype_of(value), RowKind::tokens, graph_.values[value].cols);
  }

  void make_inputs() {
    plan_.tokens = add_buffer("tokens", Category::activations, DType::i32, RowKind::tokens, 1);
    plan_.positions = add_buffer("positions", Category::activations, DType::i32, RowKind::tokens, 1);
    plan_.head_index = add_buffer("head rows", Category::loss, DType::i32, RowKind::head, 1);
    plan_.head_labels = add_buffer("head labels", Category::loss, DType::i32, RowKind::head, 1);
    plan_.head_losses = add_buffer("head losses", Category::loss, DType::f32, RowKind::head, 1);
  }

  // ---- forward ----------------------------------------------------------------------------------------------------

  /// True when `node` is the last forward reader of a value that nothing keeps, so its buffer may be overwritten.
  bool may_overwrite(int value, int node, Phase phase) const override {
    return phase == Phase::forward && !kept_[value] && graph_.consumers[value].back() == node;
  }

  int64_t gemm_bytes(int64_t m, int64_t n, std::initializer_list<int64_t> reductions) const {
    const std::vector<int64_t> list(reductions);
    return round_up(cpu::gemm_workspace(options_.precision, m, n, list, options_.threads), 64);
  }

  /// Workspace of a linear's forward step: per adapter the folded matrix, h (when not saved), the dropped input.
  int64_t linear_workspace(int index) const {
    const Node& node = graph_.nodes[index];
    const int64_t in = graph_.values[node.inputs[0]].cols, out = graph_.values[node.out].cols;
    const int64_t t = options_.tokens;
    int64_t bytes = 0, gemm = 0;
    std::vector<int64_t> reductions{in};
    for (size_t a = 0; a < adapters_.size(); ++a) {
      const int s = plan_.slots[a][index];
      if (s < 0) continue;
      const LowRankSlot& low = adapters_[a]->slots[s];
      if (training() && low.delta_dropout.any()) bytes += round_up(out * 4, 64);
      if (formed_slot(index)) {
        bytes += round_up(out * in * 4, 64);
        if (options_.precision != Precision::f32) reductions.push_back(in);
        continue;
      }
      if (low.paired()) bytes += round_up(low.rank * in * 4, 64);
      bytes += round_up(out * low.folded_cols() * 4, 64);
      if (low.has_snapshot()) {
        bytes += round_up(t * low.rank * size_of(operand_), 64);
        reductions.push_back(low.rank);
      }
      if (!training()) bytes += round_up(t * low.rank * size_of(operand_), 64);
      if (training() && low.dropout > 0) bytes += round_up(t * in * size_of(operand_), 64);
      gemm = std::max(gemm, gemm_bytes(t, low.rank, {in}));
      reductions.push_back(low.rank);
    }
    gemm = std::max(gemm, round_up(cpu::gemm_workspace(options_.precision, t, out, reductions, options_.threads), 64));
    if (has_magnitude(index)) bytes += 2 * round_up(out * 4, 64);  // gains of the base and of an adapter
    if (drops_base(slot(index))) bytes += round_up(in * 4, 64) + round_up(t * in * size_of(operand_), 64);
    bool any_kronecker = false;
    for (size_t a = 0; a < adapters_.size(); ++a) {
      const int s = plan_.kroneckers[a][index];
      if (s < 0) continue;
      any_kronecker = true;
      gemm = std::max(gemm, kronecker_bytes(*adapters_[a], adapters_[a]->kroneckers[s]));
    }
    if (any_kronecker) bytes += round_up(t * out * 4, 64);  // what they add, in fp32
    return bytes + gemm;
  }

  /// Workspace of an adapter at an embedding, forward or backward: the folded matrix, h or the gradient at h in fp32.
  int64_t embedding_workspace(int index) const {
    const int64_t out = graph_.values[graph_.nodes[index].out].cols, t = options_.tokens;
    int64_t bytes = 0;
    for (size_t a = 0; a < adapters_.size(); ++a) {
      const int s = plan_.slots[a][index];
      if (s < 0) continue;
      const int64_t rank = adapters_[a]->slots[s].rank;
      int64_t products = gemm_bytes(t, out, {rank});
      if (training())
        products = std::max({products, gemm_bytes(t, rank, {out}),
                             round_up(cpu::reduce_tokens_workspace(t, rank, out, options_.threads), 64)});
      bytes = std::max(bytes, round_up(out * rank * 4, 64) + round_up(t * rank * 4, 64) + products);
    }
    return bytes;
  }

  /// Workspace of a Kronecker product, forward or backward: C where it is a product, its gradient, the gains of rows.
  int64_t kronecker_bytes(const AdapterSpec& spec, const KroneckerSlot& slot) const {
    const cpu::KroneckerShape shape = kronecker_shape(spec, slot);
    int64_t bytes = cpu::kronecker_workspace(shape, options_.tokens, options_.threads);
    if (slot.c2 >= 0) bytes += 2 * round_up(shape.l * shape.p * 4, 64);
    if (training() && slot.delta_dropout.any()) bytes += round_up(shape.out() * 4, 64);
    return bytes;
  }

  /// Norms of the rows of every adapter that needs them; the result is the adapter's, and stands until it changes.
  void adapter_norm(int index) {
    const Node& node = graph_.nodes[index];
    const int64_t in = graph_.values[node.inputs[0]].cols, out = graph_.values[node.out].cols;
    int64_t bytes = 0;
    for (size_t a = 0; a < adapters_.size(); ++a) {
      const int s = plan_.slots[a][index];
      if (s < 0 || adapters_[a]->slots[s].magnitude < 0) continue;
      const int64_t rank = adapters_[a]->slots[s].rank;
      const std::vector<int64_t> reduction{in};
      bytes = std::max(bytes, 2 * round_up(out * rank * 4, 64) + round_up(rank * rank * 8, 64) +
                                  cpu::gemm_workspace(Precision::f32, rank, out, reduction, options_.threads));
    }
    Step made = step(steps::adapter_norm, Phase::forward, index);
    read(made, index);
    touch(made, index);
    append(std::move(made), round_up(bytes, 64));
  }

  /// Whether the gradient of a linear's magnitude can do with its scaled output, which then stays as it is until then.
  bool scaled_output_serves(int index) const {
    const Node& node = graph_.nodes[index];
    const auto& readers = graph_.consumers[node.out];
    return trains_magnitude(slot(index)) && !drops_base(slot(index)) && node.bias < 0 && node.residual < 0 &&
           std::none_of(readers.begin(), readers.end(), [&](int c) { return has(graph_.nodes[c], &OpRules::overwrites); });
  }

  /// Where the output of a linear stands before its rows are scaled. The gradient of the magnitude needs it, so it is
  /// kept where a linear is not run again in the backward pass: to do so for it alone is one more product of the base.
  int product_buffer(int index, Phase phase, int y) {
    const Node& node = graph_.nodes[index];
    const auto fresh = [&] {
      return add_buffer(node.path + " unscaled", Category::activations, operand_, RowKind::tokens,
                        graph_.values[node.out].cols);
    };
    const bool again = phase == Phase::forward && in_recomputed_segment(node) && !survives(node.out);
    if (scaled_output_serves(index)) return y;
    if (trains_magnitude(slot(index)) && !again) return product_[index] = fresh();
    return graph_.values[node.out].type == ValueType::operand && !drops_base(slot(index)) ? y : fresh();
  }

  /// Notes that a step multiplies with the weight of a linear.
  void read(Step& step, int node) const {
    const int weight = graph_.nodes[node].weight;
    if (plan_.copies[weight].adapter < 0) step.weights.push_back(weight);
  }
  double products_with(int node) const {
    return static_cast<double>(options_.tokens) * (static_cast<double>(in_of(node)) * static_cast<double>(out_of(node)));
  }

  void forward(int index, Phase phase) {
    const Node& node = graph_.nodes[index];
    if (const OpRules* rules = ops_[static_cast<size_t>(node.op)]) return rules->forward(*this, index, phase);
    if (node.op == Op::embedding) {
      Step made = step(steps::embedding, phase, index);
      made.x = plan_.tokens;
      made.y = make_value(node.out, node.path);
      made.writes = {made.y};
      touch(made, index);
      return append(std::move(made), embedding_workspace(index));
    }
    Step made = step(steps::linear, phase, index);
    made.x = value_buffer_[node.inputs[0]];
    if (has_magnitude(index) && phase == Phase::forward) adapter_norm(index);
    if (node.residual >= 0) {
      made.residual = value_buffer_[node.residual];
      if (may_overwrite(node.residual, index, phase)) made.y = made.residual;
    }
    if (made.y < 0) made.y = value_like(node.out, node.path);
    if (slot(index) && !formed_slot(index)) made.aux = hidden_buffer(index);
    if (has_magnitude(index)) made.x2 = product_buffer(index, phase, made.y);
    made.writes = {made.y};
    if (made.aux >= 0) made.writes.push_back(made.aux);
    if (made.x2 >= 0) made.writes.push_back(made.x2);
    made.multiply_adds = products_with(index);
    read(made, index);
    touch(made, index);
    value_buffer_[node.out] = made.y;
    append(std::move(made), linear_workspace(index));
  }

  int hidden_buffer(int index) {
    if (aux_buffer_[index] < 0)
      aux_buffer_[index] = add_buffer(graph_.nodes[index].path + " x A^T", Category::activations, operand_,
                                      RowKind::tokens, slot(index)->rank);
    return aux_buffer_[index];
  }

  // ---- backward ---------------------------------------------------------------------------------------------------

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

  /// Makes a forward value available, running again the nodes that lead to it where it was not kept.
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

  /// Makes h = x A^T of a linear available without its output.
  int materialize_hidden(int index) {
    if (aux_buffer_[index] >= 0) return aux_buffer_[index];
    const Node& node = graph_.nodes[index];
    Step made = step(steps::adapter_hidden, Phase::recompute, index);
    made.x = materialize(node.inputs[0]);
    const int hidden = made.aux = hidden_buffer(index);
    made.writes = {made.aux};
    touch(made, index);
    append(std::move(made), linear_workspace(index));
    return hidden;
  }

  /// Makes the output of a linear available as it was before its rows were scaled.
  int materialize_product(int index) {
    if (product_[index] < 0) {
      value_buffer_[graph_.nodes[index].out] = -1;
      materialize(graph_.nodes[index].out);
    }
    return product_[index];
  }

  void backward(int index) {
    const Node& node = graph_.nodes[index];
    if (node.out < 0 || !needs_gradient_[node.out]) return;
    flush(node.out);
    const int dy = gradient_[node.out];
    if (dy < 0) return;  // nothing downstream depends on it
    if (const OpRules* rules = ops_[static_cast<size_t>(node.op)]) {
      if (rules->backward) rules->backward(*this, index, dy);
      return;
    }
    if (node.op == Op::linear) return linear_backward(index, dy);
    if (const LowRankSlot* s = slot(index)) {
      Step made = step(steps::embedding_adapter_gradient, Phase::backward, index);
      made.x = plan_.tokens;
      made.dy = dy;
      made.adds = trained_of(*s);
      touch(made, index);
      append(std::move(made), embedding_workspace(index));
    }
    if (trains_weight(node.weight)) {
      Step made = step(steps::embedding_gradient, Phase::backward, index);
      made.x = plan_.tokens;
      made.dy = dy;
      made.adds = {trained_weight(node.weight)};
      touch(made, index);
      append(std::move(made), 0);
    }
  }

  /// Factors of a slot that train, without the magnitude.
  std::vector<int> trained_of(const LowRankSlot& s) const {
    std::vector<int> found;
    for (const int parameter : {s.a, s.b, s.d, s.b_gain, s.a2, s.b2})
      if (adapters_[0]->trains(parameter)) found.push_back(parameter);
    return found;
  }

  int64_t weight_gradient_bytes(int64_t rows, int64_t out, int64_t in) const {
    const int64_t block = std::min(out, kWeightGradientRows);
    return round_up(cpu::reduce_tokens_workspace(rows, block, in, options_.threads), 64);
  }

  /// Adding to a gradient in place must not change what linears still have to read; a residual's gradient is the same
  /// buffer as that of the linear that added it.
  void expect_unread(int buffer, const std::string& path) const override {
    for (const auto& terms : pending_)
      for (const GradientTerm& term : terms)
        if (term.dy == buffer)
          fail("UNSUPPORTED", path, ": its gradient is added to one that ", graph_.nodes[term.node].path,
               " has yet to read; the order of these nodes is not supported");
  }

  void linear_backward(int index, int dy) {
    const Node& node = graph_.nodes[index];
    const int x = node.inputs[0];
    const LowRankSlot* s = slot(index);
    const int scaled = s && s->magnitude >= 0 ? magnitude_backward(index, dy) : dy;
    GradientTerm term{index, drops_base(s) ? dy : scaled, -1};
    if (formed_slot(index)) {
      delta_gradient(index, dy);
    } else if (s) {
      Step made = step(steps::linear_param_gradient, Phase::backward, index);
      const int64_t in = graph_.values[x].cols, out = graph_.values[node.out].cols, t = options_.tokens;
      int64_t bytes = round_up(out * s->folded_cols() * 4, 64);  // the folded matrix, then its gradient
      int64_t shared = gemm_bytes(t, s->folded_cols(), {out});
      if (s->delta_dropout.any()) bytes += round_up(out * 4, 64);
      if (s->paired()) bytes += round_up(s->rank * in * 4, 64);  // the gradient at A
      made.dy = scaled;
      if (trains_folded(s)) {
        made.aux = materialize_hidden(index);
        shared = std::max(shared, cpu::reduce_tokens_workspace(t, s->rank, out, options_.threads));
      }
      if (trains_a(s)) {
        made.x = materialize(x);
        shared = std::max(shared, cpu::reduce_tokens_workspace(t, s->rank, in, options_.threads));
        if (s->dropout > 0) bytes += round_up(t * in * size_of(operand_), 64);
      }
      if (trains_a(s) || needs_gradient_[x])
        term.dh = made.y =
            add_buffer(node.path + " gradient at h", Category::activations, operand_, RowKind::tokens, s->folded_cols());
      made.adds = trained_of(*s);
      if (made.y >= 0) made.writes = {made.y};
      if (made.aux >= 0) made.writes.push_back(made.aux);
      touch(made, index);
      append(std::move(made), bytes + round_up(shared, 64));
    }
    if (const KroneckerSlot* k = kronecker(index)) {
      Step made = step(steps::kronecker_gradient, Phase::backward, index);
      made.dy = dy;
      made.x = materialize(x);
      if (needs_gradient_[x]) {
        made.accumulate = kronecker_gradient_[x] >= 0;
        if (!made.accumulate)
          kronecker_gradient_[x] = add_buffer("gradient of " + node.path + " input by C (x) D", Category::activations,
                                              DType::f32, RowKind::tokens, graph_.values[x].cols);
        made.dx = kronecker_gradient_[x];
      }
      for (const int parameter : {k->c, k->c2, k->d, k->d2})
        if (adapters_[0]->trains(parameter)) made.adds.push_back(parameter);
      if (made.dx >= 0) made.writes = {made.dx};
      touch(made, index);
      append(std::move(made), kronecker_bytes(*adapters_[0], *k));
    }
    if (trains_weight(node.weight) || trains_weight(node.bias)) {
      if (s && s->magnitude >= 0)
        fail("UNSUPPORTED", "adapter at ", node.path, ": a magnitude does not go with a weight or bias that trains");
      Step made = step(steps::weight_gradient, Phase::backward, index);
      made.dy = dy;
      made.multiply_adds = products_with(index);
      int64_t bytes = 0;
      if (trains_weight(node.weight)) {
        made.x = materialize(x);
        bytes = weight_gradient_bytes(options_.tokens, graph_.values[node.out].cols, graph_.values[x].cols);
      }
      for (const int weight : {node.weight, node.bias})
        if (trains_weight(weight)) made.adds.push_back(trained_weight(weight));
      touch(made, index);
      append(std::move(made), bytes);
    }
    if (needs_gradient_[x]) pending_[x].push_back(term);
    if (node.residual >= 0 && needs_gradient_[node.residual]) {
      // The residual's gradient is dy itself. Later steps add to it in place, so this linear's own reading of dy must
      // come first; it does, because the path through x is longer than the residual's.
      if (gradient_[node.residual] >= 0) fail("UNSUPPORTED", node.path, ": the residual already has a gradient");
      gradient_[node.residual] = dy;
    }
  }

  /// The gradient of a pair's factors through that of the change they stand for, a block of its rows at a time.
  void delta_gradient(int index, int dy) {
    const LowRankSlot& s = *slot(index);
    const int64_t in = in_of(index), out = out_of(index), block = std::min(out, kDeltaRows);
    const auto [first, second] = pair_ranks(*adapters_[0], s);
    const int64_t rank = std::max(first, second);
    Step made = step(steps::linear_param_gradient, Phase::backward, index);
    made.dy = dy;
    made.x = materialize(graph_.nodes[index].inputs[0]);
    made.adds = trained_of(s);
    touch(made, index);
    const std::vector<int64_t> columns{in};
    const int64_t shared = std::max({cpu::reduce_tokens_workspace(options_.tokens, block, in, options_.threads),
                                     cpu::reduce_tokens_workspace(block, rank, in, options_.threads),
                                     cpu::gemm_workspace(Precision::f32, block, rank, columns, options_.threads)});
    int64_t bytes = 2 * round_up(block * in * 4, 64) + round_up(shared, 64);
    if (s.delta_dropout.any()) bytes += round_up(out * 4, 64);
    append(std::move(made), bytes);
  }

  /// The gradient behind the gains of the rows, which all but the residual take for dy. It takes the place of dy unless
  /// that has other readers: a residual's gradient, or the base's product where the input is dropped.
  int magnitude_backward(int index, int dy) {
    const Node& node = graph_.nodes[index];
    const GraphValue& out = graph_.values[node.out];
    Step made = step(steps::magnitude_gradient, Phase::backward, index);
    made.dy = dy;
    if (scaled_output_serves(index))
      made.y = materialize(node.out);
    else if (trains_magnitude(slot(index)))
      made.x = materialize_product(index);
    const bool in_place = out.type == ValueType::operand && !drops_base(slot(index));
    made.dx = in_place ? dy
                       : add_buffer(node.path + " scaled gradient", Category::activations, operand_, RowKind::tokens,
                                    out.cols);
    const int scaled = made.dx;
    made.writes = {made.dx};
    if (made.y >= 0) made.writes.push_back(made.y);
    if (trains_magnitude(slot(index))) made.adds = {slot(index)->magnitude};
    touch(made, index);
    append(std::move(made), 2 * round_up(out.cols * 4, 64));
    return scaled;
  }

  /// Emits the input gradient of all linears that read `value`: one product over all their columns.
  void flush(int value) {
    if (pending_[value].empty()) return;
    const Node& first = graph_.nodes[pending_[value].front().node];
    Step made = step(steps::linear_input_gradient, Phase::backward, pending_[value].front().node);
    made.accumulate = gradient_[value] >= 0;
    if (made.accumulate && dtype_of(value) != DType::f32)
      fail("UNSUPPORTED", first.path, ": its input has readers that are not linear");
    if (made.residual = kronecker_gradient_[value]; made.residual >= 0) {
      if (made.accumulate) fail("UNSUPPORTED", first.path, ": its input has readers that are not linear");
      // In fp32 the products of the base are added in place.
      if (dtype_of(value) == DType::f32) gradient_[value] = made.residual;
    }
    if (gradient_[value] < 0) gradient_[value] = value_like(value, "gradient of " + first.path + " input");
    made.dx = gradient_[value];
    made.terms = std::move(pending_[value]);
    pending_[value].clear();
    expect_unread(made.dx, first.path);

    const int64_t in = graph_.values[value].cols, t = options_.tokens;
    std::vector<int64_t> reductions;
    int64_t dropped = 0, formed = 0;
    for (const GradientTerm& term : made.terms) {
      read(made, term.node);
      touch(made, term.node);
      made.multiply_adds += products_with(term.node);
      const int64_t out = out_of(term.node);
      reductions.push_back(out);
      const LowRankSlot* s = slot(term.node);
      if (formed_slot(term.node)) {
        formed += round_up(out * in * 4, 64);
        if (s->delta_dropout.any()) formed += round_up(out * 4, 64);
        if (options_.precision != Precision::f32) reductions.push_back(out);
      }
      if (term.dh < 0) continue;
      if (s->paired()) formed += round_up(s->rank * in * 4, 64);
      if (drops_base(s))
        dropped = std::max(dropped, round_up(t * in * size_of(operand_), 64) + round_up(t * out * size_of(operand_), 64) +
                                        round_up(out * 4, 64) + gemm_bytes(t, in, {out, s->rank}));
      else if (s->dropout > 0)
        dropped = std::max(dropped, round_up(t * in * size_of(operand_), 64) + gemm_bytes(t, in, {s->rank}));
      else
        reductions.push_back(s->rank);
      if (s->has_snapshot()) reductions.push_back(s->rank);
    }
    const int64_t gemm = round_up(cpu::gemm_workspace(options_.precision, t, in, reductions, options_.threads), 64);
    made.writes = {made.dx};
    append(std::move(made), formed + std::max(gemm, dropped));
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
    for (const int id : {plan_.tokens, plan_.positions, plan_.head_index, plan_.head_labels, plan_.head_losses}) {
      plan_.buffers[id].first = 0;
      plan_.buffers[id].last = static_cast<int>(plan_.steps.size()) - 1;
    }
  }

  void find_peak() {
    const std::vector<int64_t> live = plan_.live_bytes();
    plan_.peak_step = static_cast<int>(std::max_element(live.begin(), live.end()) - live.begin());
  }

  const Graph& graph_;
  const OpTable& ops_;
  const std::vector<const AdapterSpec*>& adapters_;
  const PlanOptions options_;
  const cpu::CpuSizes sizes_;
  NullDevice null_;
  Plan plan_;
  DType operand_ = DType::f32;
  std::vector<bool> needs_gradient_, kept_;
  std::vector<int64_t> offset_;                     // where each value lies in the file, or -1
  std::vector<int> value_buffer_;                   // where each forward value now lies, or -1
  std::vector<int> aux_buffer_;                     // rstd, lse or h of each node, or -1
  std::vector<int> product_;                        // kept output of each linear before its rows are scaled, or -1
  std::vector<int> gradient_;                       // gradient of each value, or -1
  std::vector<int> kronecker_gradient_;             // what Kronecker products add to it, or -1
  std::vector<std::vector<GradientTerm>> pending_;  // linears whose input gradient waits for the others
};

}  // namespace

const char* name_of(Mode mode) {
  static constexpr const char* kNames[] = {"train", "evaluate", "forward"};
  return kNames[static_cast<int>(mode)];
}

const char* name_of(Phase phase) {
  static constexpr const char* kNames[] = {"forward", "recompute", "backward"};
  return kNames[static_cast<int>(phase)];
}

std::vector<std::vector<int>> resolve_slots(const Graph& graph, const std::vector<const AdapterSpec*>& adapters) {
  std::vector<std::vector<int>> slots;
  for (const AdapterSpec* spec : adapters) {
    std::vector<int>& of_node = slots.emplace_back(graph.nodes.size(), -1);
    for (size_t i = 0; i < spec->slots.size(); ++i) {
      const LowRankSlot& slot = spec->slots[i];
      const auto found = graph.node_of_path.find(slot.target);
      if (found == graph.node_of_path.end() ||
          graph.nodes[found->second].op != (slot.embedding ? Op::embedding : Op::linear))
        fail("CONFIG", "adapter: '", slot.target, "' is not ", slot.embedding ? "an embedding" : "a linear",
             " of this model");
      const Node& node = graph.nodes[found->second];
      const int64_t in = slot.embedding ? graph.vocab_size : graph.values[node.inputs[0]].cols;
      const int64_t out = graph.values[node.out].cols;
      const ParameterSpec &a = spec->parameters[slot.a], &b = spec->parameters[slot.b];
      if (!fits(*spec, slot, out, in))
        fail("SHAPE", "adapter at ", slot.target, ": A is [", a.rows, ", ", a.cols, "] and B [", b.rows, ", ", b.cols,
             "] but the ", slot.embedding ? "embedding" : "linear", " is [", out, ", ", in, "]");
      if (of_node[found->second] >= 0) fail("CONFIG", "adapter: '", slot.target, "' has two slots");
      of_node[found->second] = static_cast<int>(i);
    }
  }
  return slots;
}

std::vector<std::vector<int>> resolve_kroneckers(const Graph& graph, const std::vector<const AdapterSpec*>& adapters) {
  std::vector<std::vector<int>> slots;
  for (const AdapterSpec* spec : adapters) {
    std::vector<int>& of_node = slots.emplace_back(graph.nodes.size(), -1);
    for (size_t i = 0; i < spec->kroneckers.size(); ++i) {
      const KroneckerSlot& slot = spec->kroneckers[i];
      const auto found = graph.node_of_path.find(slot.target);
      if (found == graph.node_of_path.end() || graph.nodes[found->second].op != Op::linear)
        fail("CONFIG", "adapter: '", slot.target, "' is not a linear of this model");
      const Node& node = graph.nodes[found->second];
      const int64_t in = graph.values[node.inputs[0]].cols, out = graph.values[node.out].cols;
      const cpu::KroneckerShape shape = kronecker_shape(*spec, slot);
      if (shape.out() != out || shape.in() != in)
        fail("SHAPE", "adapter at ", slot.target, ": C (x) D is [", shape.l, " x ", shape.k, ", ", shape.p, " x ",
             shape.q, "] but the linear is [", out, ", ", in, "]");
      if (of_node[found->second] >= 0) fail("CONFIG", "adapter: '", slot.target, "' has two slots");
      of_node[found->second] = static_cast<int>(i);
    }
  }
  return slots;
}

std::vector<CopyRef> resolve_copies(const Graph& graph, const std::vector<const AdapterSpec*>& adapters) {
  std::vector<CopyRef> copies(graph.weights.size());
  for (size_t a = 0; a < adapters.size(); ++a) {
    for (const WeightCopy& copy : adapters[a]->copies) {
      const auto found = graph.weight_of_name.find(copy.weight);
      if (found == graph.weight_of_name.end())
        fail("CONFIG", "adapter: '", copy.weight, "' is not a weight of this model");
      const GraphWeight& weight = graph.weights[found->second];
      const ParameterSpec& own = adapters[a]->parameters[copy.parameter];
      if (own.rows != weight.rows || own.cols != weight.cols)
        fail("SHAPE", "adapter: the copy of ", copy.weight, " is [", own.rows, ", ", own.cols,
             "] but the weight is [", weight.rows, ", ", weight.cols, "]");
      CopyRef& ref = copies[found->second];
      if (ref.adapter >= 0)
        fail("CONFIG", "adapter: '", copy.weight, "' is replaced twice; of adapters that train a base weight only one ",
             "may be on");
      ref = {static_cast<int>(a), copy.parameter};
    }
  }
  return copies;
}

bool forms_delta(const AdapterSpec& spec, const LowRankSlot& slot, int64_t out, int64_t in,
                 const PlanOptions& options) {
  if (!slot.paired() || options.mode != Mode::train) return false;
  const auto [first, second] = pair_ranks(spec, slot);
  const double cells = static_cast<double>(out) * in, tokens = options.tokens, rank = slot.rank;
  // Per token: h and y forward, h again, the gradients at h, A, B and x.
  const double factored = tokens * rank * (3.0 * (out + in) + in);
  // Per token the change's gradient, and where rounding keeps it apart from the base weight also its products with x and
  // dy; per step it is made for each of them, from two products, and its gradient takes four and those two again.
  const double products = options.precision == Precision::f32 ? 1 : options.recompute ? 4 : 3;
  const double made = options.recompute ? 6 : 5;
  const double formed = cells * (tokens * products + made * static_cast<double>(first + second));
  return formed < factored;
}

Plan plan_with(const OpTable& ops, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
               const PlanOptions& options) {
  return Builder(graph, ops, adapters, options).build();
}

int64_t kv_cache_bytes(const Graph& graph, const PlanOptions& options) {
  if (options.mode != Mode::forward) return 0;
  const int64_t element = options.precision == Precision::bf16 ? 2 : 4;
  int64_t bytes = 0;
  for (const Node& node : graph.nodes)
    if (node.op == Op::attention)
      bytes += 2 * round_up(options.kv_capacity * node.kv_heads * node.head_dim * element, 64);
  return bytes;
}

int64_t rope_table_bytes(const Graph& graph, int64_t positions) {
  return 2 * positions * static_cast<int64_t>(graph.inv_freq.size()) * 4;
}

std::vector<int64_t> Plan::live_bytes() const {
  std::vector<int64_t> change(steps.size() + 1, 0);
  for (const Buffer& buffer : buffers) {
    if (buffer.first < 0) continue;
    change[buffer.first] += buffer.bytes;
    change[buffer.last + 1] -= buffer.bytes;
  }
  change.pop_back();
  std::partial_sum(change.begin(), change.end(), change.begin());
  return change;
}

std::vector<int64_t> Plan::peak_rows() const {
  std::vector<int64_t> rows(kCategories, 0);
  int64_t live = 0;
  for (const Buffer& buffer : buffers) {
    if (buffer.first < 0 || buffer.first > peak_step || buffer.last < peak_step) continue;
    rows[static_cast<int>(buffer.category)] += buffer.bytes;
    live += buffer.bytes;
  }
  rows[static_cast<int>(Category::workspace)] += arena_bytes - live;
  return rows;
}

std::string Plan::steps_text(const Graph& graph) const {
  std::ostringstream text;
  const auto role = [&](const char* name, int64_t id) {
    if (id >= 0) text << ' ' << name << '=' << id;
  };
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& s = steps[i];
    text << i << ' ' << name_of(s.phase) << ' ' << s.kind->name;
    if (s.node >= 0) text << ' ' << graph.nodes[s.node].path;
    const std::pair<const char*, int> roles[] = {{"x", s.x}, {"x2", s.x2}, {"y", s.y}, {"aux", s.aux},
                                                 {"residual", s.residual}, {"q", s.q}, {"k", s.k}, {"v", s.v},
                                                 {"dy", s.dy}, {"dx", s.dx}, {"dq", s.dq}, {"dk", s.dk}, {"dv", s.dv},
                                                 {"workspace", s.workspace}};
    for (const auto& [name, id] : roles) role(name, id);
    for (const GradientTerm& term : s.terms) {
      text << " + " << graph.nodes[term.node].path;
      role("dy", term.dy);
      role("dh", term.dh);
    }
    for (const int id : s.gradients) role("gradient", id);
    role("offset", s.offset);
    role("parameter", s.parameter);
    if (s.accumulate) text << " accumulates";
    text << '\n';
  }
  return text.str();
}

std::string Plan::arena_text() const {
  std::ostringstream text;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& b = buffers[i];
    if (b.first < 0) continue;
    text << '#' << i << " [" << b.offset << ", " << b.offset + b.bytes << ") steps " << b.first << ".." << b.last << ' '
         << name_of(b.category) << ' ' << name_of(b.dtype) << ' ' << b.name << '\n';
  }
  return text.str();
}

}  // namespace lowrank
