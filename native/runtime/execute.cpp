#include "runtime/execute.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "core/check.h"
#include "core/error.h"
#include "optim/step.h"
#include "weights/weight_stream.h"

namespace lowrank {
Adapter& SessionAdapter::adapter() const { return *run_.session_.adapters_[index_]; }
Ptr<float> SessionAdapter::value(int parameter) const { return adapter().at(parameter); }
Ptr<float> SessionAdapter::gradient(int parameter) const { return adapter().at(parameter, AdapterArray::gradient); }
float SessionAdapter::host_value(int parameter) const {
  return HostView<const float>(adapter().memory(), adapter().at(parameter), 1, "scalars")[0];
}
Ptr<float> SessionAdapter::example_gradient(int parameter) const {
  const Allocation& examples = *run_.session_.memory_->examples;
  if (run_.train_ == nullptr || examples.bytes() == 0) return {};
  return examples.data().as<float>() + adapter().spec().offsets[parameter];
}
int64_t SessionAdapter::example_stride() const { return adapter().spec().trained_elements; }

AdapterRun::Norms SessionAdapter::norms(int term, bool base_replaced) const {
  const RowNorms& kept = adapter().row_norms(term);
  const bool same_base = !base_replaced && kept.is_of(run_.session_.model_);
  return {kept.squares, kept.norms, same_base, same_base && kept.version == adapter().version()};
}
void SessionAdapter::norms_made(int term, bool base_replaced) {
  RowNorms& kept = adapter().row_norms(term);
  kept.base = base_replaced ? std::weak_ptr<const void>() : std::weak_ptr<const void>(run_.session_.model_);
  kept.version = adapter().version();
}
Ptr<double> SessionAdapter::moment(int term) const { return run_.session_.moment(static_cast<size_t>(term)); }

Executor::Executor(Session& session, Context& context, const Plan& plan, const CancelFlag& cancel,
                   const TrainInput* train, Sums* sums)
    : Run(session.model_->graph, plan),
      session_(session),
      context_(context),
      cancel_(cancel),
      train_(train),
      sums_(train != nullptr && train->last_of_step ? sums : nullptr) {
  for (size_t i = 0; i < session.adapters_.size(); ++i) {
    SessionAdapter& own = own_.emplace_back(*this, i);
    own.weight = session.adapter_weights_[i];
    own.rank = train != nullptr ? train->active_rank : session.adapter_ranks_[i];
    own.last_rank_only = train != nullptr && train->last_rank_only;
  }
  for (SessionAdapter& own : own_) runs_.push_back(&own);
  adapters = runs_;
  device = &context.device;
  device->use(session.placed_.get());
  session.memory_->place(*this);
  if (train == nullptr) return;
  seed = train->seed;
  step = train->step;
  micro_step = train->micro_step;
  loss_scale = train->loss_scale;
  temperature = train->temperature;
  smoothing = train->label_smoothing;
  noise = train->embedding_noise;
  if (sums_ == nullptr || sums_->ranks() == 1 || updates() || !check_asked_for().empty()) return;
  // Other memory has to be copied first, for which the device must wait.
  if (session.device_memory_.shared(trained().span(AdapterArray::gradient).as<std::byte>()) == nullptr) return;
  buckets_ = gradient_buckets(plan, trained().spec());
  std::reverse(buckets_.begin(), buckets_.end());
}

Executor::~Executor() {
  context_.device.use(nullptr);
  // Cleans up after a failed step.
  if (updates())
    for (size_t i = 0; i < squares_.size(); ++i) trained().place_gradient(static_cast<int>(i), {});
}

void Executor::run(size_t from, size_t to) {
  try {
    run_steps(std::span(plan.steps).subspan(from, to - from));
  } catch (...) {
    session_.model_->expect_whole();  // else that is the cause
    throw;
  }
  session_.model_->expect_whole();
}

double Executor::loss() const {
  const double own = updates_only() ? 0 : loss_sum(*this);
  return diverged_ && std::isfinite(own) ? std::numeric_limits<double>::quiet_NaN() : own;
}

double Executor::grad_norm() const { return std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0)); }

void Executor::run_steps(std::span<const Step> steps) {
  if (const int threads = context_.device.sizes().threads(); threads > session_.threads_)
    fail("CONFIG", "the session was planned for ", session_.threads_, " threads and the engine now has ", threads,
         "; open a new session after changing the number of threads");
  const std::string& check = check_asked_for();
  if ((session_.model_->pager || session_.model_->stream) && !updates_only())
    context_.device.expect(read_order(steps, plan, graph, head_rows));
  if (updates()) {
    squares_.assign(trained().spec().parameters.size(), 0);
    expect_update(plan.steps.begin());
  }
  // Tokens that are decoded one by one have mostly the same launches.
  if (plan.options.mode == Mode::forward && past > 0 && check.empty() && texts_ == nullptr)
    context_.device.repeat(&plan, [&] { run_each(steps, check); });
  else
    run_each(steps, check);
}

void Executor::run_each(std::span<const Step> steps, const std::string& check) {
  for (const Step& next : steps) {
    if (cancel_ && cancel_->load(std::memory_order_relaxed)) fail("ABORTED", "the job was canceled");
    const auto start = std::chrono::steady_clock::now();
    const bool is_of_update = next.kind == &kUpdate || (next.kind == &kZero && next.parameter >= 0);
    if (next.losses && updates_only() && !has_finite_losses()) return;
    if (updates_only() && !is_of_update) continue;
    std::vector<std::unique_ptr<Hold>> held;
    for (const int weight : next.weights) held.push_back(device->hold({weight, 0, graph.weights[weight].rows}));
    if (check == "operands")
      check_operands(next);
    else if (check == "terms")
      check_terms(next);
    else if ((check == "1" || check == next.kind->name) && !next.kind->once)
      run_checked(next);
    else
      run_step(next, context_.device);
    sum_complete(next);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    {
      const std::lock_guard lock(session_.times_mutex_);
      session_.seconds_[{next.phase, next.kind->name}] += seconds;
    }
    if (next.losses && updates() && !has_finite_losses()) return;
  }
  if (updates()) trained().state().settle();
}

/// Gradients that are complete are summed over ranks while the pass goes on.
void Executor::sum_complete(const Step& step) {
  const auto index = static_cast<size_t>(&step - plan.steps.data());
  for (; !buckets_.empty() && buckets_.back().step <= index; buckets_.pop_back()) {
    std::byte* const at = session_.device_memory_.shared(trained().span(AdapterArray::gradient).as<std::byte>());
    sums_->add(reinterpret_cast<float*>(at) + buckets_.back().begin, buckets_.back().count, session_.adapters_[0]);
  }
}

/// True if no rank has a loss that is not finite, since ranks make either all updates or none.
bool Executor::has_finite_losses() {
  float infinite = std::isfinite(loss()) ? 0 : 1;
  if (sums_ != nullptr) {
    sums_->add(&infinite, 1);
    sums_->wait();
  }
  diverged_ = infinite > 0;
  return !diverged_;
}

void Executor::run_step(const Step& step, Device& on) {
  device = &on;
  if (texts_ == nullptr || step.kind->rows == RowsOf::all)
    execute(step);
  else
    run_rows(step);
  device = &context_.device;
}

void Executor::run(const std::vector<TextInput>& texts) {
  texts_ = &texts;
  side_by_side = true;
  run();
}

/// Runs a step on the rows of one text at a time, or on those of several where each may have adapters of its own; see
/// RowsOf.
void Executor::run_rows(const Step& step) {
  const auto tokens_of = [](const TextInput& text) { return static_cast<int64_t>(text.tokens.size()); };
  const auto is_row = [&](const TextInput& text) {
    return step.by_row && tokens_of(text) == 1 && text.adapters.size() <= kMostAdapters;
  };
  const auto whole = std::tuple(tokens, past, host_seqlens);
  std::vector<const std::vector<int32_t>*> of_rows;
  for (auto text = texts_->begin(); text != texts_->end();) {
    of_rows.clear();
    window.cache = text->begin;
    window.in_use = &text->adapters;
    past = text->past;
    tokens = tokens_of(*text);
    if (is_row(*text)) {
      for (; text != texts_->end() && is_row(*text); ++text) of_rows.push_back(&text->adapters);
      tokens = static_cast<int64_t>(of_rows.size());
    } else {
      ++text;
    }
    window.of_rows = of_rows;
    const std::vector<int32_t> cu{0, static_cast<int32_t>(tokens)};
    host_seqlens = cu;
    execute(step);
    window.token += tokens;
  }
  window = {};
  std::tie(tokens, past, host_seqlens) = whole;
}

/// State that is paged comes while the steps before the next update are computed.
void Executor::expect_update(std::vector<Step>::const_iterator from) {
  const auto is_update = [](const Step& step) { return step.kind == &kUpdate; };
  if (const auto next = std::find_if(from, plan.steps.end(), is_update); next != plan.steps.end())
    trained().state().will_need(next->parameter);
}

void Executor::begin_gradient(const Step& step) {
  trained().place_gradient(step.parameter, at<float>(step[PlanRole::zeroed]));
}

void Executor::update(const Step& step) {
  session_.model_->expect_whole();
  if (sums_ != nullptr) {
    const HostView<float> gradient = trained().edit(step.parameter, AdapterArray::gradient);
    sums_->add(gradient.data(), gradient.size());
    sums_->wait();
  }
  trained().values_changed();
  squares_[step.parameter] = update_parameter(*device, trained(), *train_->update, step.parameter);
  trained().place_gradient(step.parameter, {});
  expect_update(plan.steps.begin() + (&step - plan.steps.data()) + 1);
}

void Executor::cross(Crossing crossing, int buffer) {
  if (session_.pipe_) session_.pipe_->cross(*this, crossing, buffer);
}

Ptr<float> Executor::base_vector(int id) const { return session_.placed_->vector(id); }

}  // namespace lowrank
