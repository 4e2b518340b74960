// Executes a plan's steps: looks up buffers, weights and adapter factors and calls the kernels. The only place where
// graph, plan, adapters and backend meet.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "adapters/embedding.h"
#include "adapters/hadamard.h"
#include "adapters/kronecker.h"
#include "adapters/row_norms.h"
#include "adapters/output_norms.h"
#include "adapters/snapshot.h"
#include "core/error.h"
#include "core/math.h"
#include "optim/private_sum.h"
#include "optim/step.h"
#include "plan/kinds.h"
#include "plan/run.h"
#include "quant/half.h"
#include "runtime/session.h"
#include "runtime/stored_weights.h"

namespace lowrank {

namespace {

/// Rows of a paged table that are looked up at a time.
constexpr int64_t kGathered = 256;

/// One key for every (seed, step, micro-step, node), so recompute and resume see the same mask.
uint64_t dropout_key(const TrainInput& input, int node) {
  uint64_t key = input.seed;
  for (const uint64_t part : {input.step, input.micro_step, static_cast<uint64_t>(node)})
    key = (key ^ part) * 0x9e3779b97f4a7c15u + (key >> 29);
  return key;
}

/// Hands out pieces of a step's workspace in the order the plan counted them; a step that takes more than was planned ends
/// there, before it writes over what others hold.
class Scratch {
 public:
  Scratch(std::byte* at, int64_t bytes) : at_(at), end_(at + bytes) {}
  template <class T = std::byte>
  T* take(int64_t bytes) {
    std::byte* const taken = at_;
    if (round_up(bytes, 64) > end_ - at_)
      fail("INTERNAL", "a step takes ", bytes, " bytes of workspace where ", end_ - at_, " are left");
    at_ += round_up(bytes, 64);
    return reinterpret_cast<T*>(taken);
  }
  std::byte* rest() const { return at_; }

 private:
  std::byte* at_;
  std::byte* end_;
};

}  // namespace

/// An adapter's numbers, as steps find them.
class Values final : public AdapterValues {
 public:
  explicit Values(const Adapter& adapter) : adapter_(adapter) {}
  Ptr<float> value(int parameter) const override { return cpu::address_of(adapter_.data(parameter)); }
  Ptr<float> gradient(int parameter) const override {
    return cpu::address_of(adapter_.data(parameter, AdapterArray::gradient));
  }

 private:
  const Adapter& adapter_;
};

class Executor final : public Run {
  using Matrix = cpu::Matrix;
  using Operand = cpu::Operand;
  using Output = cpu::Output;
  using Segment = cpu::Segment;

 public:
  Executor(Session& session, Context& context, const Plan& plan, const CancelFlag& cancel)
      : Run(session.model_->graph, plan),
        session_(session),
        graph_(session.model_->graph),
        context_(context),
        plan_(plan),
        cancel_(cancel),
        stored_(*session.model_),
        sizes_(plan.options.threads),
        device_(context.pool, context.kernels, sizes_, stored_),
        reference_(context.pool, cpu::kernels(cpu::Level::reference), sizes_, stored_) {
    for (const auto& adapter : session.adapters_) values_.emplace_back(*adapter);
    for (const Values& values : values_) adapter_values_.push_back(&values);
    Run::adapters = adapter_values_;
    Run::arena = cpu::address_of(session.arena_.data());
    Run::kv_cache = cpu::address_of(session.kv_cache_.data());
    Run::cos = cpu::address_of(session.rope_.data<float>());
    Run::sin = Run::cos + session.positions_ * static_cast<int64_t>(graph_.inv_freq.size());
  }
  ~Executor() {
    // What a step that failed left behind.
    if (updates())
      for (size_t i = 0; i < squares_.size(); ++i) trained().place_gradient(static_cast<int>(i), nullptr);
  }

  const TrainInput* train = nullptr;

  template <class T = std::byte>
  T* at(int buffer) const {
    return reinterpret_cast<T*>(session_.arena_.data<std::byte>() + plan_.buffers[buffer].offset);
  }

  void run() {
    try {
      run_steps();
    } catch (...) {
      session_.model_->expect_whole();  // else that is the cause
      throw;
    }
    session_.model_->expect_whole();
  }

  double loss_sum() const {
    double sum = 0;
    for (int64_t i = 0; i < head_rows; ++i) sum += at<float>(plan_.head_losses)[i];
    return sum;
  }

  /// Of all gradients that were used up; sums are in the order of parameters, as of an update after the backward pass.
  double grad_norm() const { return std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0)); }

  // ---- steps at linears and embeddings ------------------------------------------------------------------------------

  void embedding(const Step& step) {
    embed(step, graph_.nodes[step.node]);
    add_to_embedding(step, graph_.nodes[step.node]);
  }
  void weight_gradients(const Step& step) {
    const Node& node = graph_.nodes[step.node];
    const int64_t out = cols(node.out);
    if (step.x >= 0)
      add_weight_gradient(Run::matrix(step.dy), tokens, out, Run::matrix(step.x), cols(node.inputs[0]), weight_gradient(node.weight));
    if (const Ptr<float> bias = weight_gradient(node.bias))
      cpu::bias_gradient(context_.pool, tokens, out, matrix(step.dy), cpu::host(bias));
  }
  void table_gradient(const Step& step) {
    const Node& node = graph_.nodes[step.node];
    cpu::embedding_gradient(context_.pool, tokens, cols(node.out), at<int32_t>(step.x), matrix(step.dy),
                            cpu::host(weight_gradient(node.weight)));
  }
 private:
  friend struct Steps;
  void run_steps() {
    if (context_.pool.threads() > plan_.options.threads)
      fail("CONFIG", "the session was planned for ", plan_.options.threads, " threads and the engine now has ",
           context_.pool.threads(), "; make the session again after changing the number of threads");
    // "1" checks every step; the name of a kernel, such as "attention", only its steps.
    static const std::string check = [] {
      const char* text = std::getenv("LOWRANK_CHECK");
      return std::string(text == nullptr || std::strcmp(text, "0") == 0 ? "" : text);
    }();
    if (pager()) pager()->expect(page_order(plan_, pager()->spans(), head_rows));
    if (updates()) {
      squares_.assign(trained().spec().parameters.size(), 0);
      expect_update(plan_.steps.begin());
    }
    for (const Step& step : plan_.steps) {
      if (cancel_ && cancel_->load(std::memory_order_relaxed)) fail("ABORTED", "the job was cancelled");
      const auto start = std::chrono::steady_clock::now();
      std::vector<Held> held;
      for (const int weight : step.weights) held.push_back(session_.model_->hold(weight));
      if ((check == "1" || check == step.kind->name) && step.kind != &kUpdate)
        run_checked(step);
      else
        run_step(step, context_.kernels, device_);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const std::lock_guard lock(session_.times_mutex_);
      session_.seconds_[{step.phase, step.kind}] += seconds;
      if (step.losses && updates() && !std::isfinite(loss_sum())) return;
    }
    if (updates()) trained().state().settle();
  }

  // ---- updates in the backward pass -------------------------------------------------------------------------------

  bool updates() const { return train != nullptr && train->update; }
  Adapter& trained() const { return *session_.adapters_[0]; }

  /// State that is paged comes while what is before the next update is computed.
  void expect_update(std::vector<Step>::const_iterator from) {
    const auto is_update = [](const Step& step) { return step.kind == &kUpdate; };
    if (const auto next = std::find_if(from, plan_.steps.end(), is_update); next != plan_.steps.end())
      trained().state().will_need(next->parameter);
  }

  void update(const Step& step) override {
    session_.model_->expect_whole();
    trained().values_changed();
    squares_[step.parameter] = update_parameter(context_, trained(), *train->update, step.parameter);
    trained().place_gradient(step.parameter, nullptr);
    expect_update(plan_.steps.begin() + (&step - plan_.steps.data()) + 1);
  }

  // ---- operands ---------------------------------------------------------------------------------------------------

  Pager* pager() const { return session_.model_->pager.get(); }
  /// The same for a weight, null where an adapter's copy stands in for it.
  Pager* pager_of(int id) const { return plan_.copies[id].adapter < 0 ? pager() : nullptr; }

  DType operand_type() const { return plan_.options.precision == Precision::bf16 ? DType::bf16 : DType::f32; }

  Matrix matrix(int id) const {
    const Buffer& buffer = plan_.buffers[id];
    return {at(id), buffer.dtype, buffer.cols};
  }
  Operand operand(int id) const {
    const Buffer& buffer = plan_.buffers[id];
    return {at(id), buffer.dtype, buffer.cols};
  }
  static Operand from_column(const Operand& x, int64_t column) {
    return {static_cast<const std::byte*>(x.data) + column * size_of(x.dtype), x.dtype, x.ld};
  }
  static Operand from_row(const Operand& x, int64_t row) { return from_column(x, row * x.ld); }
  WeightView weight(int id) const {
    const CopyRef& copy = plan_.copies[id];
    if (copy.adapter < 0) return session_.model_->weights[id].view();
    const Adapter& adapter = *session_.adapters_[copy.adapter];
    const ParameterSpec& own = adapter.spec().parameters[copy.parameter];
    return dense(adapter.data(copy.parameter), own.rows, own.cols, own.cols);
  }
  /// Where the gradient of a trained base weight adds up, or null where it is frozen.
  float* weight_gradient_of(int id) const {
    if (id < 0 || train == nullptr) return nullptr;
    const CopyRef& copy = plan_.copies[id];
    return copy.adapter < 0 ? nullptr
                            : session_.adapters_[copy.adapter]->data(copy.parameter, AdapterArray::gradient);
  }
  const float* vector(int id) const { return static_cast<const float*>(weight(id).data); }
  std::byte* workspace(const Step& step) const { return step.workspace < 0 ? nullptr : at(step.workspace); }
  Scratch scratch_of(const Step& step) const {
    return {workspace(step), step.workspace < 0 ? 0 : plan_.buffers[step.workspace].bytes};
  }
  int64_t cols(int value) const { return graph_.values[value].cols; }

  static WeightView dense(const float* data, int64_t rows, int64_t cols, int64_t ld) {
    WeightView view;
    view.rows = rows;
    view.cols = cols;
    view.data = data;
    view.ld = ld;
    return view;
  }

  const LowRankSlot* slot(size_t adapter, int node) const {
    const int index = plan_.slots[adapter][node];
    return index < 0 ? nullptr : &session_.adapters_[adapter]->spec().slots[index];
  }
  const KroneckerSlot* kronecker(size_t adapter, int node) const {
    const int index = plan_.kroneckers[adapter][node];
    return index < 0 ? nullptr : &session_.adapters_[adapter]->spec().kroneckers[index];
  }
  cpu::KroneckerFactors kronecker_factors(const Adapter& adapter, const KroneckerSlot& s, Scratch& scratch) const {
    const cpu::KroneckerShape shape = kronecker_shape(adapter.spec(), s);
    float* const room = s.c2 >= 0 ? scratch.take<float>(shape.l * shape.p * 4) : nullptr;
    return {kronecker_c(adapter, s, room), adapter.data(s.d), s.d2 >= 0 ? adapter.data(s.d2) : nullptr};
  }
  const Adapter& adapter_at(size_t adapter) const { return *session_.adapters_[adapter]; }
  /// Ranks of a slot that are in use: those of the step, or those that the session was opened for.
  int64_t active(size_t adapter, const LowRankSlot& s) const {
    return s.ranks(train != nullptr ? train->active_rank : session_.adapter_ranks_[adapter]);
  }
  /// A restricted to the active rank and to the columns of the linear: [active, in]. A pair's is built in scratch.
  WeightView factor_a(size_t adapter, const LowRankSlot& s, int64_t in, Scratch& scratch) const {
    const Adapter& owner = adapter_at(adapter);
    if (!s.paired()) return dense(owner.data(s.a), active(adapter, s), in, owner.spec().parameters[s.a].cols);
    float* const built = scratch.take<float>(s.rank * in * 4);
    context_.pool.for_range(s.rank, std::max<int64_t>(1, 32768 / in), [&](int64_t begin, int64_t end) {
      build_pair_a(owner, s, begin, end, built);
    });
    return dense(built, s.rank, in, in);
  }
  void fold_rows(size_t adapter, const LowRankSlot& s, int64_t rows, float* out, float weight = 1,
                 const float* gains = nullptr) const {
    const int64_t rank = active(adapter, s);
    context_.pool.for_range(rows, std::max<int64_t>(1, 32768 / rank), [&](int64_t begin, int64_t end) {
      fold(adapter_at(adapter), s, rank, begin, end, out, weight, gains);
    });
  }
  bool snapshot_acts(size_t adapter, const LowRankSlot& s) const { return snapshot_ratio(adapter_at(adapter), s) != 0; }
  WeightView snapshot_a(size_t adapter, const LowRankSlot& s) const {
    const ParameterSpec& a = adapter_at(adapter).spec().parameters[s.snapshot_a];
    return dense(adapter_at(adapter).data(s.snapshot_a), a.rows, a.cols, a.cols);
  }
  void fold_snapshot_rows(size_t adapter, const LowRankSlot& s, int64_t rows, float* out, float weight = 1,
                          const float* gains = nullptr) const {
    context_.pool.for_range(rows, std::max<int64_t>(1, 16384 / s.rank), [&](int64_t begin, int64_t end) {
      fold_snapshot(adapter_at(adapter), s, begin, end, out, weight, gains);
    });
  }
  /// Gains of the rows of the change in this micro-step, or null where nothing is dropped.
  const float* row_gains(const DeltaDropout& dropout, int node, int64_t rows, Scratch& scratch) const {
    if (train == nullptr || !dropout.any()) return nullptr;
    float* const gains = scratch.take<float>(rows * 4);
    draw_row_gains(dropout, dropout_key(*train, node), rows, gains);
    return gains;
  }
  bool forms(const LowRankSlot& s, int64_t out, int64_t in) const {
    return forms_delta(session_.adapters_[0]->spec(), s, out, in, plan_.options);
  }

  /// Rows [begin, begin + rows) of a pair.
  static cpu::PairFactors pair_rows(const Adapter& adapter, const LowRankSlot& s, int64_t begin, int64_t rows) {
    const auto [first, second] = pair_ranks(adapter.spec(), s);
    return {rows,
            adapter.spec().parameters[s.a].cols,
            first,
            second,
            adapter.data(s.b) + begin * first,
            adapter.data(s.a),
            adapter.data(s.b2) + begin * second,
            adapter.data(s.a2)};
  }

  /// What a pair adds to the weight of its linear, [out, in], and in fp32 the weight itself: in 16 bits one rounding of
  /// the sum would lose much of what is added, which is small.
  WeightView formed_delta(int node, const LowRankSlot& s, Scratch& scratch) {
    const WeightView base = weight(graph_.nodes[node].weight);
    float* const delta = scratch.take<float>(base.rows * base.cols * 4);
    const float* const gains = row_gains(s.delta_dropout, node, base.rows, scratch);
    k_->gemm.add_pair(context_.pool, pair_rows(*session_.adapters_[0], s, 0, base.rows),
                      plan_.options.precision == Precision::f32 ? &base : nullptr, s.scale, gains, delta);
    return dense(delta, base.rows, base.cols, base.cols);
  }

  // ---- steps ------------------------------------------------------------------------------------------------------

  void run_step(const Step& step, const cpu::Kernels& kernels, Device& on) {
    k_ = &kernels;
    Layout layout = step.workspace < 0 ? Layout({}, 0) : Layout(cpu::address_of(at(step.workspace)), plan_.buffers[step.workspace].bytes);
    Run::device = &on;
    Run::room = &layout;
    step.kind->run(*this, step);
  }

  void begin_gradient(const Step& step) override { trained().place_gradient(step.parameter, at<float>(step.dx)); }
  void offload(const Step& step) override { session_.offloaded_->write(at(step.x), live_bytes(step.x), step.offset); }

  /// Of the tokens of this call.
  int64_t live_bytes(int buffer) const { return tokens * plan_.buffers[buffer].cols * size_of(plan_.buffers[buffer].dtype); }

  /// Blocks come back in the order opposite to that in which they went, so the one before is wanted next.
  void reload(const Step& step) override {
    const int64_t bytes = live_bytes(step.y);
    session_.offloaded_->read(at(step.y), bytes, step.offset);
    const auto later = [&](const Step& other) { return other.kind == &kReload && &other > &step; };
    const auto next = std::find_if(plan_.steps.begin(), plan_.steps.end(), later);
    if (next != plan_.steps.end()) session_.offloaded_->will_need(next->offset, bytes);
  }

  /// Copies rows of a table to `out` [count, cols].
  void look_up(const WeightView& table, int64_t count, const int32_t* ids, const Matrix& out) {
    const bool plain = table.format == WeightFormat::f32 || table.format == WeightFormat::bf16 ||
                       table.format == WeightFormat::f16;
    if (!plain) {
      context_.pool.for_range(count, std::max<int64_t>(1, 16384 / table.cols), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
          decode_row(table, ids[row], 0, table.cols, static_cast<float*>(out.data) + row * out.ld);
      });
      return;
    }
    const DType dtype = table.format == WeightFormat::f32    ? DType::f32
                        : table.format == WeightFormat::bf16 ? DType::bf16
                                                             : DType::f16;
    k_->ops.embedding(context_.pool, count, table.cols, ids, {const_cast<void*>(table.data), dtype, table.ld}, out);
  }

  void embed(const Step& step, const Node& node) {
    const WeightView table = weight(node.weight);
    const Matrix y = matrix(step.y);
    const int32_t* const ids = at<int32_t>(step.x);
    Pager* const pager = pager_of(node.weight);
    // Rows of a paged table are read where they lie, as many at a time as take a quarter of the budget, and not kept.
    const StorageFormat format = session_.model_->weights[node.weight].format();
    const int64_t row_bytes = pager == nullptr ? 0 : weight_bytes(format, 1, table.cols) + 2 * os::page_bytes();
    const int64_t at_once = pager == nullptr ? tokens : std::clamp<int64_t>(pager->budget() / 4 / row_bytes, 1, kGathered);
    for (int64_t begin = 0; begin < tokens; begin += at_once) {
      const int64_t count = std::min(at_once, tokens - begin);
      std::vector<int32_t> read;
      if (pager != nullptr) {
        read.assign(ids + begin, ids + begin + count);
        std::sort(read.begin(), read.end());
        read.erase(std::unique(read.begin(), read.end()), read.end());
        pager->take_room(static_cast<int64_t>(read.size()) * row_bytes);
        pager->prefetch(node.weight, read);
      }
      look_up(table, count, ids + begin,
              {static_cast<std::byte*>(y.data) + begin * y.ld * size_of(y.dtype), y.dtype, y.ld});
      if (pager != nullptr) pager->give_back(static_cast<int64_t>(read.size()) * row_bytes, node.weight, read);
    }
  }

  // ---- adapters of the embedding ----------------------------------------------------------------------------------

  /// h = A[:, id]^T of the ranks in use.
  float* looked_up(size_t adapter, const LowRankSlot& s, Scratch& scratch) {
    const int64_t rank = active(adapter, s);
    float* const h = scratch.take<float>(tokens_capacity() * rank * 4);
    gather_columns(context_.pool, tokens, at<int32_t>(plan_.tokens), rank, graph_.vocab_size,
                   adapter_at(adapter).data(s.a), h);
    return h;
  }

  void add_to_embedding(const Step& step, const Node& node) {
    const int64_t out = cols(node.out);
    for (size_t a = 0; a < session_.adapters_.size(); ++a) {
      const LowRankSlot* s = slot(a, step.node);
      if (s == nullptr) continue;
      const int64_t rank = active(a, *s);
      Scratch scratch = scratch_of(step);
      float* const folded = scratch.take<float>(out * rank * 4);
      fold_rows(a, *s, out, folded, session_.adapter_weights_[a]);
      const Operand h{looked_up(a, *s, scratch), DType::f32, rank};
      if (plan_.options.output_norms && a == 0)
        add_second_moment(context_.pool, tokens, rank, h.data, h.dtype, rank,
                          session_.moment(static_cast<size_t>(plan_.slots[0][step.node])));
      const Segment segment{h, dense(folded, out, rank, rank)};
      Output y{at(step.y), plan_.buffers[step.y].dtype, out};
      y.residual = at<float>(step.y);
      y.residual_ld = out;
      k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, out, {&segment, 1}, y, scratch.rest());
    }
  }

  void embedding_adapter_gradient(const Step& step, const Node& node) {
    Adapter& adapter = *session_.adapters_[0];
    const LowRankSlot& s = *slot(0, step.node);
    const int64_t out = cols(node.out), rank = active(0, s), first = train->last_rank_only ? rank - 1 : 0;
    const Operand dy = operand(step.dy);
    Scratch scratch = scratch_of(step);
    if (float* const da = adapter.data(s.a, AdapterArray::gradient)) {
      Scratch own = scratch;
      float* const folded = own.take<float>(out * rank * 4);
      fold_rows(0, s, out, folded);
      float* const dh = own.take<float>(tokens_capacity() * rank * 4);
      const Segment segment{dy, dense(folded, out, rank, rank)};
      k_->gemm.gemm_nn(context_.pool, plan_.options.precision, tokens, rank, {&segment, 1}, {dh, DType::f32, rank},
                       own.rest());
      scatter_columns(context_.pool, tokens, at<int32_t>(step.x), first, rank, graph_.vocab_size, dh, da);
    }
    if (float* const db = adapter.data(s.b, AdapterArray::gradient)) {
      const Operand h{looked_up(0, s, scratch), DType::f32, rank};
      reduce(tokens, from_column(h, first), rank - first, dy, out, s.scale_at(rank), db + first, s.rank, true,
             scratch.rest());
    }
  }

  // ---- linear and its adapters ------------------------------------------------------------------------------------

  /// h = x A^T, of the dropped input where the slot drops in training; `dropped` is room for that input.
  void hidden(size_t adapter, const LowRankSlot& s, int node, const Operand& x, void* dropped, void* h,
              Scratch scratch) {
    const WeightView a = factor_a(adapter, s, cols(graph_.nodes[node].inputs[0]), scratch);
    const Operand input = s.dropout > 0 && train != nullptr ? drop(s, node, x, a.cols, dropped) : x;
    const Segment segment{input, a};
    k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, a.rows, {&segment, 1},
                     {h, operand_type(), s.rank}, scratch.rest());
  }

  Operand drop(const LowRankSlot& s, int node, const Operand& x, int64_t width, void* out) {
    const Matrix dropped{out, operand_type(), width};
    k_->ops.dropout(context_.pool, tokens, width, {const_cast<void*>(x.data), x.dtype, x.ld}, s.dropout,
                    dropout_key(*train, node), dropped);
    return {out, operand_type(), width};
  }

  void adapter_norm(const Step& step, const Node& node) {
    const int64_t in = cols(node.inputs[0]), out = cols(node.out);
    // A copy of the base that another adapter trained may change behind this adapter's back.
    const bool replaced = plan_.copies[node.weight].adapter >= 0;
    for (size_t index = 0; index < session_.adapters_.size(); ++index) {
      const LowRankSlot* s = slot(index, step.node);
      if (s == nullptr || s->magnitude < 0) continue;
      const std::shared_ptr<Adapter>& adapter = session_.adapters_[index];
      RowNorms& kept = adapter->row_norms(*s);
      const bool same_base = !replaced && kept.is_of(session_.model_);
      if (same_base && kept.version == adapter->version()) continue;
      const WeightView w = weight(node.weight);
      if (!same_base) row_squares(context_.pool, w, kept.squares);
      Scratch scratch = scratch_of(step);
      float* const folded = scratch.take<float>(out * s->rank * 4);
      float* const products = scratch.take<float>(s->rank * out * 4);
      double* const gram = scratch.take<double>(s->rank * s->rank * 8);
      const float* const a = adapter->data(s->a);
      const int64_t a_ld = adapter->spec().parameters[s->a].cols;
      fold_rows(index, *s, out, folded);
      gram_of_rows(context_.pool, a, s->rank, in, a_ld, gram);
      const Segment segment{{a, DType::f32, a_ld}, w};
      k_->gemm.gemm_nt(context_.pool, Precision::f32, s->rank, out, {&segment, 1}, {products, DType::f32, out},
                       scratch.rest());
      row_norms(context_.pool, {w, a, a_ld, folded, s->rank, kept.squares, products, gram}, kept.norms);
      kept.base = replaced ? std::weak_ptr<const void>() : std::weak_ptr<const void>(session_.model_);
      kept.version = adapter->version();
    }
  }

  /// What scales the rows of the base's product: each adapter with a magnitude adds weight * (m / c - 1) to 1.
  void base_gains(int node, float* gain, int64_t out) const {
    float rest = 1;
    std::fill(gain, gain + out, 0.0f);
    for (size_t a = 0; a < session_.adapters_.size(); ++a) {
      const LowRankSlot* s = slot(a, node);
      if (s == nullptr || s->magnitude < 0) continue;
      Adapter& adapter = *session_.adapters_[a];
      const float *m = adapter.data(s->magnitude), *c = adapter.row_norms(*s).norms;
      const float weight = session_.adapter_weights_[a];
      for (int64_t i = 0; i < out; ++i) gain[i] += weight * (m[i] / c[i]);
      rest -= weight;
    }
    if (rest == 0) return;
    for (int64_t i = 0; i < out; ++i) gain[i] += rest;
  }

  void linear(const Step& step, const Node& node) {
    const int64_t in = cols(node.inputs[0]), out = cols(node.out);
    const int64_t element = size_of(operand_type());
    Scratch scratch = scratch_of(step);
    std::vector<Segment> segments{{operand(step.x), weight(node.weight)}};
    struct Part {
      size_t adapter;
      float weight;
      const LowRankSlot* slot;
      float* folded;
      void* h;
      void* dropped;
      void* h_snapshot;
    };
    std::vector<Part> parts;
    for (size_t a = 0; a < session_.adapters_.size(); ++a) {
      const LowRankSlot* s = slot(a, step.node);
      if (s == nullptr) continue;
      if (forms(*s, out, in)) {
        const Segment formed{operand(step.x), formed_delta(step.node, *s, scratch)};
        if (plan_.options.precision == Precision::f32)
          segments[0] = formed;
        else
          segments.push_back(formed);
        continue;
      }
      Part part{a, session_.adapter_weights_[a], s, scratch.take<float>(out * s->folded_cols() * 4), nullptr, nullptr, nullptr};
      part.h = step.aux >= 0 ? at(step.aux) : scratch.take(tokens_capacity() * s->rank * element);
      if (train != nullptr && s->dropout > 0) part.dropped = scratch.take(tokens_capacity() * in * element);
      if (s->has_snapshot()) part.h_snapshot = scratch.take(tokens_capacity() * s->rank * element);
      parts.push_back(part);
    }
    // Gains of rows come last: y = gain * (x W^T + sum of h B^T). The adapters' own gains differ from the base's where
    // several act on one linear, so they are folded in over that.
    float* const gain = step.x2 < 0 ? nullptr : scratch.take<float>(out * 4);
    if (gain) base_gains(step.node, gain, out);
    for (const Part& part : parts) {
      hidden(part.adapter, *part.slot, step.node, operand(step.x), part.dropped, part.h, scratch);
      if (plan_.options.output_norms && part.adapter == 0)
        add_second_moment(context_.pool, tokens, part.slot->rank, part.h, operand_type(), part.slot->rank,
                          session_.moment(static_cast<size_t>(plan_.slots[0][step.node])));
      const int64_t rank = active(part.adapter, *part.slot);
      const bool snapshot = snapshot_acts(part.adapter, *part.slot);
      if (snapshot) {
        const Segment through{operand(step.x), snapshot_a(part.adapter, *part.slot)};
        k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, rank, {&through, 1},
                         {part.h_snapshot, operand_type(), rank}, scratch.rest());
      }
      Scratch drawn = scratch;
      const float* gains = row_gains(part.slot->delta_dropout, step.node, out, drawn);
      if (gain && (parts.size() > 1 || part.weight != 1)) gains = gains_over(part.adapter, *part.slot, gain, out, drawn);
      if (snapshot) {
        fold_snapshot_rows(part.adapter, *part.slot, out, part.folded, part.weight, gains);
        segments.push_back({{part.h, operand_type(), rank}, dense(part.folded, out, rank, 2 * rank)});
        segments.push_back({{part.h_snapshot, operand_type(), rank}, dense(part.folded + rank, out, rank, 2 * rank)});
        continue;
      }
      fold_rows(part.adapter, *part.slot, out, part.folded, part.weight, gains);
      segments.push_back({{part.h, operand_type(), part.slot->rank}, dense(part.folded, out, rank, rank)});
    }
    Output y = output_of(step, node);
    add_kroneckers(step, out, y, scratch);
    if (gain) {
      const float* bias = node.bias >= 0 ? vector(node.bias) : nullptr;
      Matrix rest{const_cast<float*>(y.residual), DType::f32, out};
      if (train != nullptr && parts[0].slot->dropout > 0) {
        // Of the dropped input, with what was dropped beside it: y = gain * (xd W^T + h B^T) + (x - xd) W^T.
        segments[0].x = {parts[0].dropped, operand_type(), in};
        out_of_dropped(step, node, segments[0], scratch);
        bias = nullptr;
        rest = matrix(step.y);
      }
      k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, out, segments,
                       {at(step.x2), plan_.buffers[step.x2].dtype, out}, scratch.rest());
      k_->ops.scale_columns(context_.pool, tokens, out, matrix(step.x2), gain, bias, rest, matrix(step.y));
      return;
    }
    k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, out, segments, y, scratch.rest());
  }

  /// Where a linear's products go, with its bias and residual.
  Output output_of(const Step& step, const Node& node) const {
    const int64_t out = cols(node.out);
    Output y{at(step.y), plan_.buffers[step.y].dtype, out};
    if (node.bias >= 0) y.bias = vector(node.bias);
    if (step.residual >= 0) {
      y.residual = at<float>(step.residual);
      y.residual_ld = out;
    }
    return y;
  }

  /// y = (x - xd) W^T, with bias and residual, given the segment xd W^T.
  void out_of_dropped(const Step& step, const Node& node, const Segment& dropped, Scratch scratch) {
    const int64_t in = cols(node.inputs[0]);
    float* const minus = scratch.take<float>(in * 4);
    std::fill(minus, minus + in, -1.0f);
    const Matrix rest{scratch.take(tokens_capacity() * in * size_of(operand_type())), operand_type(), in};
    const Operand& xd = dropped.x;
    k_->ops.scale_columns(context_.pool, tokens, in, {const_cast<void*>(xd.data), xd.dtype, xd.ld}, minus, nullptr,
                          matrix(step.x), rest);
    const Segment segment{{rest.data, rest.dtype, rest.ld}, dropped.w};
    k_->gemm.gemm_nt(context_.pool, plan_.options.precision, tokens, cols(node.out), {&segment, 1},
                     output_of(step, node), scratch.rest());
  }

  /// The gains of a slot's own rows over those of the base.
  const float* gains_over(size_t index, const LowRankSlot& s, float* gain, int64_t out, Scratch& scratch) const {
    Adapter& adapter = *session_.adapters_[index];
    const float* const m = s.magnitude >= 0 ? adapter.data(s.magnitude) : nullptr;
    const float* const c = m ? adapter.row_norms(s).norms : nullptr;
    float* const over = scratch.take<float>(out * 4);
    for (int64_t i = 0; i < out; ++i) {
      // A base that is taken away altogether stays in by a share that no sum can see.
      if (std::fabs(gain[i]) < 1e-12f) gain[i] = 1e-12f;
      over[i] = (m ? m[i] / c[i] : 1.0f) / gain[i];
    }
    return over;
  }

  void magnitude_gradient(const Step& step, const Node& node) {
    Adapter& adapter = *session_.adapters_[0];
    const LowRankSlot& s = *slot(0, step.node);
    const int64_t out = cols(node.out);
    Scratch scratch = scratch_of(step);
    float* const gain = scratch.take<float>(out * 4);
    float* const inverse = scratch.take<float>(out * 4);
    const float *m = adapter.data(s.magnitude), *c = adapter.row_norms(s).norms;
    for (int64_t i = 0; i < out; ++i) {
      gain[i] = m[i] / c[i];
      // y is m / c times what the sum is over; a row that is scaled to zero says nothing and stays.
      inverse[i] = step.y < 0 ? 1 / c[i] : m[i] == 0 ? 0 : 1 / m[i];
    }
    const int product = step.y < 0 ? step.x : step.y;
    if (product < 0)
      k_->ops.scale_columns(context_.pool, tokens, out, matrix(step.dy), gain, nullptr, {}, matrix(step.dx));
    else
      k_->ops.scale_columns_backward(context_.pool, tokens, out, matrix(step.dy), matrix(product), gain, inverse,
                                     matrix(step.dx), adapter.data(s.magnitude, AdapterArray::gradient));
  }

  /// Makes what Kronecker products add to the output, and the residual with it, the product's new residual.
  void add_kroneckers(const Step& step, int64_t out, Output& y, Scratch& scratch) {
    float* sum = nullptr;
    for (size_t a = 0; a < session_.adapters_.size(); ++a) {
      const KroneckerSlot* s = kronecker(a, step.node);
      if (s == nullptr) continue;
      const Adapter& adapter = *session_.adapters_[a];
      if (sum == nullptr) sum = scratch.take<float>(tokens_capacity() * out * 4);
      Scratch own = scratch;
      const float* const gains = row_gains(s->delta_dropout, step.node, out, own);
      const cpu::KroneckerFactors factors = kronecker_factors(adapter, *s, own);
      k_->ops.kronecker(context_.pool, tokens, kronecker_shape(adapter.spec(), *s), factors,
                        s->scale * session_.adapter_weights_[a], gains, matrix(step.x), y.residual, sum, own.rest());
      y.residual = sum;
      y.residual_ld = out;
    }
  }

  void kronecker_gradient(const Step& step, const Node& node) {
    const Adapter& adapter = *session_.adapters_[0];
    const KroneckerSlot& s = *kronecker(0, step.node);
    const cpu::KroneckerShape shape = kronecker_shape(adapter.spec(), s);
    Scratch scratch = scratch_of(step);
    const float* const gains = row_gains(s.delta_dropout, step.node, cols(node.out), scratch);
    const cpu::KroneckerFactors factors = kronecker_factors(adapter, s, scratch);
    const auto gradient = [&](int parameter) {
      return parameter < 0 ? nullptr : adapter.data(parameter, AdapterArray::gradient);
    };
    cpu::KroneckerGradients to{gradient(s.c), gradient(s.d), gradient(s.d2)};
    if (s.c2 >= 0) {
      to.c = scratch.take<float>(shape.l * shape.p * 4);
      std::memset(to.c, 0, static_cast<size_t>(shape.l * shape.p * 4));
    }
    k_->ops.kronecker_backward(context_.pool, tokens, shape, factors, s.scale, gains, matrix(step.x), matrix(step.dy),
                               to, step.dx < 0 ? nullptr : at<float>(step.dx), step.accumulate, scratch.rest());
    if (s.c2 >= 0) spread_kronecker_c(adapter, s, to.c);
  }

  /// out += scale * u^T x over some tokens, of which `r` and `n` columns count; stored transposed or not.
  void reduce(int64_t count, const Operand& u, int64_t r, const Operand& x, int64_t n, float scale, float* out,
              int64_t ld, bool transposed, std::byte* room) const {
    k_->gemm.reduce_tokens(context_.pool, plan_.options.precision, count, u, r, x, n, scale, out, ld, transposed, room);
  }

  int64_t tokens_capacity() const { return plan_.options.tokens; }

  void adapter_hidden(const Step& step) {
    const LowRankSlot& s = *slot(0, step.node);
    const Node& node = graph_.nodes[step.node];
    Scratch scratch = scratch_of(step);
    scratch.take(cols(node.out) * s.rank * 4);
    void* dropped = s.dropout > 0 ? scratch.take(tokens_capacity() * cols(node.inputs[0]) * size_of(operand_type())) : nullptr;
    hidden(0, s, step.node, operand(step.x), dropped, at(step.aux), scratch);
  }

  /// See `reduce`.
  struct Reduction {
    Operand u;
    int64_t r;
    Operand x;
    int64_t n;
    float scale;
    int64_t ld;
    bool transposed;
  };

  /// Adds a reduction to the gradient of a parameter from element `offset` on; where examples are clipped one by one, that
  /// of each sequence to the gradient of its own.
  void reduce_to_gradient(int parameter, int64_t offset, const Reduction& reduction, std::byte* room) {
    const Adapter& adapter = *session_.adapters_[0];
    const auto& [u, r, x, n, scale, ld, transposed] = reduction;
    if (!session_.examples_)
      return reduce(tokens, u, r, x, n, scale, adapter.data(parameter, AdapterArray::gradient) + offset, ld, transposed,
                    room);
    float* to = session_.examples_.data<float>() + adapter.spec().parameters[parameter].offset + offset;
    for (size_t s = 0; s + 1 < host_seqlens.size(); ++s, to += adapter.spec().trained_elements) {
      const int64_t begin = host_seqlens[s], count = host_seqlens[s + 1] - begin;
      if (count > 0)
        reduce(count, from_row(u, begin), r, from_row(x, begin), n, scale, to, ld, transposed, room);
    }
  }

  void linear_param_gradient(const Step& step, const Node& node) {
    Adapter& adapter = *session_.adapters_[0];
    const LowRankSlot& s = *slot(0, step.node);
    const int64_t in = cols(node.inputs[0]), out = cols(node.out), rank = active(0, s);
    if (forms(s, out, in)) return delta_gradient(step, adapter, s, out, in);
    // Ranks from `first` on get gradients: all that are in use, or the last of them alone.
    const int64_t first = train->last_rank_only ? rank - 1 : 0;
    Scratch scratch = scratch_of(step);
    const float* const gains = row_gains(s.delta_dropout, step.node, out, scratch);
    float* const folded = scratch.take<float>(out * s.folded_cols() * 4);
    const bool snapshot = snapshot_acts(0, s);
    const bool drops = s.dropout > 0 && step.x >= 0;
    void* const dropped = drops ? scratch.take(tokens_capacity() * in * size_of(operand_type())) : nullptr;
    const Operand dy = operand(step.dy);

    if (step.y >= 0) {  // gradient at h = dy B
      if (snapshot)
        fold_snapshot_rows(0, s, out, folded);
      else
        fold_rows(0, s, out, folded, 1, gains);
      const int64_t columns = snapshot ? 2 * rank : rank;
      const Segment segment{dy, dense(folded, out, columns, columns)};
      k_->gemm.gemm_nn(context_.pool, plan_.options.precision, tokens, columns, {&segment, 1},
                       {at(step.y), operand_type(), s.folded_cols()}, scratch.rest());
    }
    if (step.aux >= 0) {
      const Operand h = operand(step.aux);
      if (!s.has_gains() && !s.paired()) {
        reduce_to_gradient(s.b, first, {from_column(h, first), rank - first, dy, out, s.scale_at(rank), s.rank, true},
                           scratch.rest());
      } else {
        std::memset(folded, 0, static_cast<size_t>(out * rank * 4));
        reduce(tokens, h, rank, dy, out, 1, folded, rank, true, scratch.rest());
        if (s.paired())
          context_.pool.for_range(out, std::max<int64_t>(1, 16384 / rank), [&](int64_t begin, int64_t end) {
            spread_pair_b(adapter, s, begin, end, folded, gains);
          });
        else
          fold_gradient(adapter, s, rank, out, folded);
      }
    }
    if (step.x >= 0 && s.paired()) {
      float* const at_a = scratch.take<float>(rank * in * 4);
      std::memset(at_a, 0, static_cast<size_t>(rank * in * 4));
      reduce(tokens, operand(step.y), rank, operand(step.x), in, 1, at_a, in, false, scratch.rest());
      context_.pool.for_range(in, 64, [&](int64_t begin, int64_t end) { spread_pair_a(adapter, s, begin, end, at_a); });
    } else if (step.x >= 0) {
      const Operand x = drops ? drop(s, step.node, operand(step.x), in, dropped) : operand(step.x);
      const float scale = snapshot ? 1 / snapshot_own(adapter, s) : 1;
      reduce_to_gradient(s.a, first * in,
                         {from_column(operand(step.y), first), rank - first, x, in, scale, in, false}, scratch.rest());
    }
  }

  /// The gradient of the change that a pair stands for, dy^T x, a block of its rows at a time, and from it those of the
  /// pair's factors: of b times a it is that of the change times the other product, element by element.
  void delta_gradient(const Step& step, Adapter& adapter, const LowRankSlot& s, int64_t out, int64_t in) {
    Scratch scratch = scratch_of(step);
    const float* const gains = row_gains(s.delta_dropout, step.node, out, scratch);
    const Operand dy = operand(step.dy);
    // Gradients at the change, then at the pair's first product, and at its second.
    float* const first = scratch.take<float>(std::min(out, kDeltaRows) * in * 4);
    float* const second = scratch.take<float>(std::min(out, kDeltaRows) * in * 4);
    for (int64_t begin = 0; begin < out; begin += kDeltaRows) {
      const int64_t rows = std::min(kDeltaRows, out - begin);
      std::memset(first, 0, static_cast<size_t>(rows * in * 4));
      const Operand part{static_cast<const std::byte*>(dy.data) + begin * size_of(dy.dtype), dy.dtype, dy.ld};
      reduce(tokens, part, rows, operand(step.x), in, s.scale, first, in, false, scratch.rest());
      k_->gemm.split_pair(context_.pool, pair_rows(adapter, s, begin, rows), gains ? gains + begin : nullptr, first,
                          second);
      for (const auto& [b, a, g] : {std::tuple{s.b, s.a, first}, {s.b2, s.a2, second}}) {
        const int64_t rank = adapter.spec().parameters[a].rows;
        if (float* const da = adapter.data(a, AdapterArray::gradient))
          k_->gemm.reduce_tokens(context_.pool, Precision::f32, rows,
                                 {adapter.data(b) + begin * rank, DType::f32, rank}, rank, {g, DType::f32, in}, in, 1,
                                 da, in, false, scratch.rest());
        if (float* db = adapter.data(b, AdapterArray::gradient)) {
          db += begin * rank;
          const Segment segment{{g, DType::f32, in}, dense(adapter.data(a), rank, in, in)};
          Output sum{db, DType::f32, rank};
          sum.residual = db;
          sum.residual_ld = rank;
          k_->gemm.gemm_nt(context_.pool, Precision::f32, rows, rank, {&segment, 1}, sum, scratch.rest());
        }
      }
    }
  }

  void linear_input_gradient(const Step& step) {
    const int64_t in = plan_.buffers[step.dx].cols;
    Scratch scratch = scratch_of(step);
    std::vector<Segment> segments;
    std::vector<const GradientTerm*> dropped;
    for (const GradientTerm& term : step.terms) {
      segments.push_back({operand(term.dy), weight(graph_.nodes[term.node].weight)});
      if (const LowRankSlot* s = slot(0, term.node); s != nullptr && forms(*s, cols(graph_.nodes[term.node].out), in)) {
        const WeightView formed = formed_delta(term.node, *s, scratch);
        if (plan_.options.precision == Precision::f32)
          segments.back().w = formed;
        else
          segments.push_back({operand(term.dy), formed});
      }
      if (term.dh < 0) continue;
      const LowRankSlot& s = *slot(0, term.node);
      if (s.dropout > 0)
        dropped.push_back(&term);  // its mask keeps it out of the common sum
      else
        segments.push_back({operand(term.dh), factor_a(0, s, in, scratch)});
      if (snapshot_acts(0, s)) segments.push_back({from_column(operand(term.dh), s.rank), snapshot_a(0, s)});
    }
    Output dx{at(step.dx), plan_.buffers[step.dx].dtype, in};
    if (step.accumulate || step.residual >= 0) {
      dx.residual = at<float>(step.accumulate ? step.dx : step.residual);
      dx.residual_ld = in;
    }
    k_->gemm.gemm_nn(context_.pool, plan_.options.precision, tokens, in, segments, dx, scratch.rest());
    for (const GradientTerm* term : dropped) {
      const LowRankSlot& s = *slot(0, term->node);
      Scratch scratch = scratch_of(step);
      void* const part = scratch.take(tokens_capacity() * in * size_of(operand_type()));
      std::vector<Segment> behind{{operand(term->dh), factor_a(0, s, in, scratch)}};
      if (s.magnitude >= 0) {
        // The base's product of the dropped input counts gain - 1 times; see `linear`.
        const Node& node = graph_.nodes[term->node];
        const int64_t out = cols(node.out);
        float* const gain = scratch.take<float>(out * 4);
        base_gains(term->node, gain, out);
        for (int64_t i = 0; i < out; ++i) gain[i] -= 1;
        const Matrix scaled{scratch.take(tokens_capacity() * out * size_of(operand_type())), operand_type(), out};
        k_->ops.scale_columns(context_.pool, tokens, out, matrix(term->dy), gain, nullptr, {}, scaled);
        behind.push_back({{scaled.data, scaled.dtype, scaled.ld}, weight(node.weight)});
      }
      k_->gemm.gemm_nn(context_.pool, plan_.options.precision, tokens, in, behind, {part, operand_type(), in},
                       scratch.rest());
      k_->ops.dropout_backward_add(context_.pool, tokens, in, {part, operand_type(), in}, s.dropout,
                                   dropout_key(*train, term->node), matrix(step.dx));
    }
  }

  // ---- LOWRANK_CHECK ----------------------------------------------------------------------------------------------

  /// Runs a step, then the same step with the reference kernels from the same inputs, and stops at the first difference.
  void run_checked(const Step& step) {
    struct Copy {
      int buffer;
      std::vector<std::byte> before, fast;
    };
    std::vector<Copy> copies;
    const auto bytes_of = [&](int id) { return static_cast<size_t>(plan_.buffers[id].bytes); };
    step.each_written([&](int id) { copies.push_back({id, {at(id), at(id) + bytes_of(id)}, {}}); });
    const auto [gradients, trained] = gradients_written();
    const std::vector<float> gradients_before(gradients, gradients + trained);
    run_step(step, context_.kernels, device_);
    const std::vector<float> gradients_fast(gradients, gradients + trained);
    for (Copy& copy : copies) {
      copy.fast.assign(at(copy.buffer), at(copy.buffer) + bytes_of(copy.buffer));
      std::copy(copy.before.begin(), copy.before.end(), at(copy.buffer));
    }
    std::copy(gradients_before.begin(), gradients_before.end(), gradients);
    run_step(step, cpu::kernels(cpu::Level::reference), reference_);
    for (Copy& copy : copies) {
      const Buffer& buffer = plan_.buffers[copy.buffer];
      const int64_t rows = buffer.rows == RowKind::tokens ? tokens : buffer.rows == RowKind::head ? head_rows : 1;
      const Compared part{rows, written_columns(step, copy.buffer), buffer.cols};
      compare(step, buffer.name, buffer.dtype, copy.fast.data(), at(copy.buffer), part);
      std::copy(copy.fast.begin(), copy.fast.end(), at(copy.buffer));
    }
    if (gradients) {
      const auto count = static_cast<int64_t>(trained);
      compare(step, "adapter gradients", DType::f32, gradients_fast.data(), gradients, {1, count, count});
      std::copy(gradients_fast.begin(), gradients_fast.end(), gradients);
    }
  }

  /// What steps add gradients to: the adapter's, or those of each example.
  std::pair<float*, size_t> gradients_written() const {
    if (session_.examples_)
      return {session_.examples_.data<float>(), static_cast<size_t>(session_.examples_.bytes()) / sizeof(float)};
    if (session_.adapters_.empty()) return {nullptr, 0};
    const Adapter& adapter = *session_.adapters_[0];
    float* const span = adapter.span(AdapterArray::gradient);
    return {span, span ? static_cast<size_t>(adapter.spec().trained_elements) : 0};
  }

  /// Columns of a buffer that a step writes: of h and of the gradient at it as many as ranks are in use.
  int64_t written_columns(const Step& step, int buffer) const {
    const bool forward = step.kind == &steps::linear || step.kind == &steps::adapter_hidden;
    const bool backward = step.kind == &steps::linear_param_gradient;
    const bool ranks = (forward && buffer == step.aux) || (backward && buffer == step.y);
    const LowRankSlot* s = ranks ? slot(0, step.node) : nullptr;
    return s == nullptr ? plan_.buffers[buffer].cols : active(0, *s);
  }

  /// The first `cols` of `ld` columns of some rows.
  struct Compared {
    int64_t rows, cols, ld;
  };

  void compare(const Step& step, const std::string& what, DType dtype, const void* fast, const void* reference,
               const Compared& part) const {
    if (dtype != DType::f32 && dtype != DType::bf16) return;
    const auto element = [&](const void* data, int64_t i) {
      return dtype == DType::f32 ? static_cast<const float*>(data)[i]
                                 : f32_from_bf16(static_cast<const uint16_t*>(data)[i]);
    };
    double difference = 0, norm = 0;
    for (int64_t row = 0; row < part.rows; ++row) {
      for (int64_t i = row * part.ld; i < row * part.ld + part.cols; ++i) {
        const double r = element(reference, i), d = element(fast, i) - r;
        difference += d * d;
        norm += r * r;
      }
    }
    const double limit = plan_.options.precision == Precision::bf16 ? 2e-2 : 1e-4;
    const double relative = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
    if (!(relative <= limit))
      fail("INTERNAL", "LOWRANK_CHECK: ", name_of(step.phase), ' ', step.kind->name, " at ",
           graph_.nodes[step.node].path, ", ", what, ": relative difference ", relative, " from the reference kernels");
  }

  Ptr<float> base_vector(int id) const override {
    return cpu::address_of(static_cast<const float*>(session_.model_->weights[id].view().data));
  }

  Session& session_;
  const Graph& graph_;
  Context& context_;
  const Plan& plan_;
  const CancelFlag& cancel_;
  const StoredWeights stored_;
  const cpu::CpuSizes sizes_;
  cpu::CpuDevice device_, reference_;
  std::vector<Values> values_;
  std::vector<const AdapterValues*> adapter_values_;
  const cpu::Kernels* k_ = nullptr;
  std::vector<double> squares_;  // sums over the gradients of parameters that were updated
};

/// The steps of kinds that the executor runs itself.
struct Steps {
  static Executor& of(Run& run) { return static_cast<Executor&>(run); }
  template <void (Executor::*kMember)(const Step&)>
  static void call(Run& run, const Step& step) {
    (of(run).*kMember)(step);
  }
  template <void (Executor::*kMember)(const Step&, const Node&)>
  static void call(Run& run, const Step& step) {
    (of(run).*kMember)(step, run.node(step));
  }
  static constexpr StepKind embedding{"embedding", call<&Executor::embedding>};
  static constexpr StepKind adapter_norm{"adapter_norm", call<&Executor::adapter_norm>};
  static constexpr StepKind linear{"linear", call<&Executor::linear>};
  static constexpr StepKind adapter_hidden{"adapter_hidden", call<&Executor::adapter_hidden>};
  static constexpr StepKind magnitude_gradient{"magnitude_gradient", call<&Executor::magnitude_gradient>};
  static constexpr StepKind linear_param_gradient{"linear_param_gradient", call<&Executor::linear_param_gradient>};
  static constexpr StepKind kronecker_gradient{"kronecker_gradient", call<&Executor::kronecker_gradient>};
  static constexpr StepKind embedding_adapter_gradient{"embedding_adapter_gradient", call<&Executor::embedding_adapter_gradient>};
  static constexpr StepKind linear_input_gradient{"linear_input_gradient", call<&Executor::linear_input_gradient>};
  static constexpr StepKind weight_gradient{"weight_gradient", call<&Executor::weight_gradients>};
  static constexpr StepKind embedding_gradient{"embedding_gradient", call<&Executor::table_gradient>};
};

namespace steps {
const StepKind embedding = Steps::embedding;
const StepKind adapter_norm = Steps::adapter_norm;
const StepKind linear = Steps::linear;
const StepKind adapter_hidden = Steps::adapter_hidden;
const StepKind magnitude_gradient = Steps::magnitude_gradient;
const StepKind linear_param_gradient = Steps::linear_param_gradient;
const StepKind kronecker_gradient = Steps::kronecker_gradient;
const StepKind embedding_adapter_gradient = Steps::embedding_adapter_gradient;
const StepKind linear_input_gradient = Steps::linear_input_gradient;
const StepKind weight_gradient = Steps::weight_gradient;
const StepKind embedding_gradient = Steps::embedding_gradient;
}  // namespace steps

namespace {

void check_tokens(const std::vector<int32_t>& tokens, const Plan& plan, const Graph& graph) {
  if (tokens.empty() || static_cast<int64_t>(tokens.size()) > plan.options.tokens)
    fail("SHAPE", "the batch has ", tokens.size(), " tokens; this plan takes 1 to ", plan.options.tokens);
  for (const int32_t id : tokens)
    if (id < 0 || id >= graph.vocab_size)
      fail("DATA", "token id ", id, " lies outside the model's vocabulary of ", graph.vocab_size);
}

/// Fills tokens, positions and the labelled rows of a micro-batch; returns the number of labelled rows.
int64_t place_batch(const Executor& run, const Plan& plan, const Graph& graph, const MicroBatch& batch) {
  check_tokens(batch.tokens, plan, graph);
  const auto& cu = batch.cu_seqlens;
  const int32_t count = static_cast<int32_t>(batch.tokens.size());
  if (cu.size() < 2 || static_cast<int64_t>(cu.size()) - 1 > plan.options.sequences || cu.front() != 0 ||
      cu.back() != count || !std::is_sorted(cu.begin(), cu.end()))
    fail("SHAPE", "cuSeqlens must rise from 0 to the ", count, " tokens over 1 to ", plan.options.sequences, " sequences");
  if (batch.labels.size() != batch.tokens.size())
    fail("SHAPE", "labels has ", batch.labels.size(), " entries for ", count, " tokens");
  std::copy(batch.tokens.begin(), batch.tokens.end(), run.at<int32_t>(plan.tokens));
  int32_t* const positions = run.at<int32_t>(plan.positions);
  for (size_t s = 0; s + 1 < cu.size(); ++s)
    for (int32_t i = cu[s]; i < cu[s + 1]; ++i) positions[i] = i - cu[s];
  int64_t labelled = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t label = batch.labels[i];
    if (label == -100) continue;
    if (label < 0 || label >= graph.vocab_size)
      fail("DATA", "label ", label, " lies outside the model's vocabulary of ", graph.vocab_size);
    if (labelled == plan.options.head_rows)
      fail("SHAPE", "the batch has more than ", plan.options.head_rows, " labelled positions, which this plan takes");
    run.at<int32_t>(plan.head_index)[labelled] = i;
    run.at<int32_t>(plan.head_labels)[labelled] = label;
    ++labelled;
  }
  return labelled;
}

const Plan& plan_of_mode(const Plan& plan, Mode mode) {
  if (plan.options.mode != mode)
    fail("CONFIG", "this plan is for mode ", name_of(plan.options.mode), ", not ", name_of(mode));
  return plan;
}

}  // namespace

LossResult Session::train_step(Context& context, const std::string& name, const TrainInput& input,
                               const CancelFlag& cancel) {
  const Plan& p = plan_of_mode(plan(name), Mode::train);
  if (input.last_rank_only)
    for (const LowRankSlot& slot : adapters_[0]->spec().slots)
      if (slot.has_gains() || slot.paired() || slot.magnitude >= 0)
        fail("CONFIG", "the last rank alone is trained only of A and B without gains, unlike the adapter at ", slot.target);
  const AdapterSpec& spec = adapters_[0]->spec();
  if (p.updates != spec.state.in_backward)
    fail("CONFIG", "where the adapter's gradients lie has changed since the session was opened; open another");
  if (spec.state.in_backward != input.update.has_value())
    fail("CONFIG", "the adapter is updated ", spec.state.in_backward ? "in" : "after", " the backward pass, and the step ",
         input.update ? "brings an" : "has no", " update");
  if (input.update) {
    check_step(spec, *input.update);
    if (input.update->max_grad_norm > 0)
      fail("CONFIG", "maxGradNorm is ", input.update->max_grad_norm,
           "; what is updated in the backward pass cannot be clipped by a norm that is known after it");
  }
  Executor run(*this, context, p, cancel);
  run.head_rows = place_batch(run, p, graph(), input.batch);
  run.tokens = static_cast<int64_t>(input.batch.tokens.size());
  run.host_seqlens = input.batch.cu_seqlens;
  run.train = &input;
  run.loss_scale = input.loss_scale;
  float* const examples = example_gradients();
  if (examples) {
    const auto count = static_cast<int64_t>(input.batch.cu_seqlens.size()) - 1;
    std::fill_n(examples, count * adapters_[0]->spec().trained_elements, 0.0f);
  }
  run.run();
  LossResult result{run.loss_sum(), run.head_rows, {}, {}};
  if (input.update) result.grad_norm = run.grad_norm();
  if (examples) add_examples(context, input, result);
  return result;
}

/// Where the gradient of each sequence adds up in private training by example, [sequences, trained elements]; else null.
float* Session::example_gradients() const {
  if (adapters_.empty() || !adapters_[0]->spec().by_example()) return nullptr;
  return examples_ ? examples_.data<float>() : adapters_[0]->span(AdapterArray::gradient);
}

/// The mean over each example's own labels is what counts as its gradient, whatever its length.
void Session::add_examples(Context& context, const TrainInput& input, LossResult& result) {
  Adapter& adapter = *adapters_[0];
  const auto& cu = input.batch.cu_seqlens;
  const float* gradient = example_gradients();
  for (size_t s = 0; s + 1 < cu.size(); ++s, gradient += adapter.spec().trained_elements) {
    const auto labels = input.batch.labels.begin();
    const auto labelled = cu[s + 1] - cu[s] - std::count(labels + cu[s], labels + cu[s + 1], -100);
    const double weight = labelled == 0 ? 0 : 1.0 / static_cast<double>(labelled) / input.loss_scale;
    result.norms.push_back(add_gradient(context, adapter, {input.active_rank, input.last_rank_only}, gradient, weight,
                                        input.clipping_norm));
  }
}

LossResult Session::evaluate(Context& context, const std::string& name, const MicroBatch& batch,
                             const CancelFlag& cancel) {
  const Plan& p = plan_of_mode(plan(name), Mode::evaluate);
  Executor run(*this, context, p, cancel);
  run.head_rows = place_batch(run, p, graph(), batch);
  run.tokens = static_cast<int64_t>(batch.tokens.size());
  run.host_seqlens = batch.cu_seqlens;
  run.run();
  return {run.loss_sum(), run.head_rows, {}, {}};
}

const float* Session::forward(Context& context, const std::string& name, const ForwardInput& input,
                              const CancelFlag& cancel) {
  const Plan& p = plan_of_mode(plan(name), Mode::forward);
  check_tokens(input.tokens, p, graph());
  const int64_t count = static_cast<int64_t>(input.tokens.size());
  if (input.past < 0 || input.past + count > p.options.kv_capacity)
    fail("SHAPE", "tokens ", input.past, " to ", input.past + count, " do not fit a KV cache of ",
         p.options.kv_capacity, " tokens");
  if (static_cast<int64_t>(input.rows.size()) > p.options.head_rows)
    fail("SHAPE", input.rows.size(), " rows of logits are wanted; this plan takes at most ", p.options.head_rows);
  for (const int32_t row : input.rows)
    if (row < 0 || row >= count) fail("SHAPE", "row ", row, " of ", count, " tokens does not exist");
  Executor run(*this, context, p, cancel);
  const std::vector<int32_t> cu{0, static_cast<int32_t>(count)};
  run.tokens = count;
  run.past = input.past;
  run.head_rows = static_cast<int64_t>(input.rows.size());
  run.host_seqlens = cu;
  std::copy(input.tokens.begin(), input.tokens.end(), run.at<int32_t>(p.tokens));
  std::copy(input.rows.begin(), input.rows.end(), run.at<int32_t>(p.head_index));
  for (int64_t i = 0; i < count; ++i)
    run.at<int32_t>(p.positions)[i] = static_cast<int32_t>(input.past + i);
  run.run();
  return run.at<float>(p.steps.back().y);
}

}  // namespace lowrank
