#include "runtime/execute.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "optim/step.h"

namespace lowrank {
namespace {

/// Rows of a paged table that are looked up at a time.
constexpr int64_t kGathered = 256;

struct Pinned final : Hold {
  explicit Pinned(Held given) : held(std::move(given)) {}
  Held held;
};

/// Copies rows of a table to `out` [count, cols].
void look_up(Pool& pool, const cpu::OpKernels& ops, const WeightView& table, int64_t count, const int32_t* ids,
             const cpu::Matrix& out) {
  const bool plain =
      table.format == WeightFormat::f32 || table.format == WeightFormat::bf16 || table.format == WeightFormat::f16;
  if (!plain) {
    pool.for_range(count, std::max<int64_t>(1, 16384 / table.cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        decode_row(table, ids[row], 0, table.cols, static_cast<float*>(out.data) + row * out.ld);
    });
    return;
  }
  const DType dtype = table.format == WeightFormat::f32    ? DType::f32
                      : table.format == WeightFormat::bf16 ? DType::bf16
                                                           : DType::f16;
  ops.embedding(pool, count, table.cols, ids, {const_cast<void*>(table.data), dtype, table.ld}, out);
}

}  // namespace

std::unique_ptr<Hold> StoredWeights::hold(const WeightRows& rows) const {
  if (!model_.pager) return nullptr;
  return std::make_unique<Pinned>(model_.hold(rows.weight, rows.begin, rows.end));
}

void StoredWeights::decode_rows(Pool& pool, const cpu::OpKernels& ops, int weight, const WeightView& view,
                                std::span<const int32_t> ids, const cpu::Matrix& out) const {
  const auto tokens = static_cast<int64_t>(ids.size());
  Pager* const pager = weight < 0 ? nullptr : model_.pager.get();
  if (pager == nullptr) return look_up(pool, ops, view, tokens, ids.data(), out);
  // Rows of a paged table are read where they lie, as many at a time as take a quarter of the budget, and not kept.
  const int64_t row_bytes = weight_bytes(model_.weights[weight].format(), 1, view.cols) + 2 * os::page_bytes();
  const int64_t at_once = std::clamp<int64_t>(pager->budget() / 4 / row_bytes, 1, kGathered);
  for (int64_t begin = 0; begin < tokens; begin += at_once) {
    const int64_t count = std::min(at_once, tokens - begin);
    std::vector<int32_t> read(ids.begin() + begin, ids.begin() + begin + count);
    std::sort(read.begin(), read.end());
    read.erase(std::unique(read.begin(), read.end()), read.end());
    const int64_t bytes = static_cast<int64_t>(read.size()) * row_bytes;
    pager->take_room(bytes);
    pager->prefetch(weight, read);
    look_up(pool, ops, view, count, ids.data() + begin,
            {static_cast<std::byte*>(out.data) + begin * out.ld * size_of(out.dtype), out.dtype, out.ld});
    pager->give_back(bytes, weight, read);
  }
}

Adapter& SessionAdapter::adapter() const { return *run_.session_.adapters_[index_]; }
Ptr<float> SessionAdapter::value(int parameter) const { return cpu::address_of(adapter().data(parameter)); }
Ptr<float> SessionAdapter::gradient(int parameter) const {
  return cpu::address_of(adapter().data(parameter, AdapterArray::gradient));
}
float SessionAdapter::host_value(int parameter) const { return *adapter().data(parameter); }
Ptr<float> SessionAdapter::example_gradient(int parameter) const {
  const DeviceMemory& examples = *run_.session_.memory_->examples;
  if (run_.train_ == nullptr || examples.bytes() == 0) return {};
  return examples.data().as<float>() + adapter().spec().parameters[parameter].offset;
}
int64_t SessionAdapter::example_stride() const { return adapter().spec().trained_elements; }

AdapterRun::Norms SessionAdapter::norms(int term, bool base_replaced) const {
  const RowNorms& kept = adapter().row_norms(term);
  const bool same_base = !base_replaced && kept.is_of(run_.session_.model_);
  return {cpu::address_of(kept.squares), cpu::address_of(kept.norms), same_base,
          same_base && kept.version == adapter().version()};
}
void SessionAdapter::norms_made(int term, bool base_replaced) {
  RowNorms& kept = adapter().row_norms(term);
  kept.base = base_replaced ? std::weak_ptr<const void>() : std::weak_ptr<const void>(run_.session_.model_);
  kept.version = adapter().version();
}
Ptr<double> SessionAdapter::moment(int term) const {
  return run_.session_.moment(static_cast<size_t>(term));
}

Executor::Executor(Session& session, Context& context, const Plan& plan, const CancelFlag& cancel,
                   const TrainInput* train)
    : Run(session.model_->graph, plan),
      session_(session),
      context_(context),
      cancel_(cancel),
      train_(train),
      stored_(*session.model_),
      device_(context.pool, cpu::device_of(context).kernels(), session.sizes_, &stored_) {
  for (size_t i = 0; i < session.adapters_.size(); ++i) {
    SessionAdapter& own = own_.emplace_back(*this, i);
    own.weight = session.adapter_weights_[i];
    own.rank = train != nullptr ? train->active_rank : session.adapter_ranks_[i];
    own.last_rank_only = train != nullptr && train->last_rank_only;
  }
  for (SessionAdapter& own : own_) runs_.push_back(&own);
  adapters = runs_;
  device = &device_;
  session.memory_->place(*this);
  if (train == nullptr) return;
  seed = train->seed;
  step = train->step;
  micro_step = train->micro_step;
  loss_scale = train->loss_scale;
}

Executor::~Executor() {
  // What a step that failed left behind.
  if (updates())
    for (size_t i = 0; i < squares_.size(); ++i) trained().place_gradient(static_cast<int>(i), nullptr);
}

void Executor::run() {
  try {
    run_steps();
  } catch (...) {
    session_.model_->expect_whole();  // else that is the cause
    throw;
  }
  session_.model_->expect_whole();
}

double Executor::grad_norm() const { return std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0)); }

void Executor::run_steps() {
  if (context_.pool.threads() > session_.sizes_.threads())
    fail("CONFIG", "the session was planned for ", session_.sizes_.threads(), " threads and the engine now has ",
         context_.pool.threads(), "; make the session again after changing the number of threads");
  // "1" checks every step; the name of a kind, such as "attention", only its steps; "operands" what kernels touch.
  static const std::string check = [] {
    const char* text = std::getenv("LOWRANK_CHECK");
    return std::string(text == nullptr || std::strcmp(text, "0") == 0 ? "" : text);
  }();
  if (Pager* const pager = session_.model_->pager.get()) pager->expect(page_order(plan, pager->spans(), head_rows));
  if (updates()) {
    squares_.assign(trained().spec().parameters.size(), 0);
    expect_update(plan.steps.begin());
  }
  for (const Step& next : plan.steps) {
    if (cancel_ && cancel_->load(std::memory_order_relaxed)) fail("ABORTED", "the job was canceled");
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::unique_ptr<Hold>> held;
    for (const int weight : next.weights) held.push_back(device_.hold({weight, 0, graph.weights[weight].rows}));
    if (check == "operands")
      check_operands(next);
    else if ((check == "1" || check == next.kind->name) && next.kind != &kUpdate)
      run_checked(next);
    else
      run_step(next, device_);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const std::lock_guard lock(session_.times_mutex_);
    session_.seconds_[{next.phase, next.kind->name}] += seconds;
    if (next.losses && updates() && !std::isfinite(loss_sum(*this))) return;
  }
  if (updates()) trained().state().settle();
}

void Executor::run_step(const Step& step, Device& on) {
  device = &on;
  execute(step);
  device = &device_;
}

/// State that is paged comes while the steps before the next update are computed.
void Executor::expect_update(std::vector<Step>::const_iterator from) {
  const auto is_update = [](const Step& step) { return step.kind == &kUpdate; };
  if (const auto next = std::find_if(from, plan.steps.end(), is_update); next != plan.steps.end())
    trained().state().will_need(next->parameter);
}

void Executor::begin_gradient(const Step& step) { trained().place_gradient(step.parameter, host<float>(step.dx)); }

void Executor::update(const Step& step) {
  session_.model_->expect_whole();
  trained().values_changed();
  squares_[step.parameter] = update_parameter(context_, trained(), *train_->update, step.parameter);
  trained().place_gradient(step.parameter, nullptr);
  expect_update(plan.steps.begin() + (&step - plan.steps.data()) + 1);
}

Ptr<float> Executor::base_vector(int id) const {
  return cpu::address_of(static_cast<const float*>(session_.model_->weights[id].view().data));
}

}  // namespace lowrank
