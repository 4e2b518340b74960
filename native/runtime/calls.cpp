// The calls of a session: a micro-batch is placed, its plan is executed, and what it leaves is read.
#include <algorithm>
#include <iterator>
#include <utility>

#include "adapters/term.h"
#include "core/error.h"
#include "ops/ops.h"
#include "optim/private_sum.h"
#include "plan/buckets.h"
#include "runtime/execute.h"
#include "runtime/link_sum.h"

namespace lowrank {
namespace {

const Plan& plan_of_mode(const Plan& plan, Mode mode) {
  if (plan.options.mode != mode)
    fail("CONFIG", "this plan is for mode ", name_of(plan.options.mode), ", not ", name_of(mode));
  return plan;
}

/// The place of the step that needs the weights of the head rows, or of the first that begins one of its gradients.
size_t weighted_step(const Plan& plan) {
  auto found = std::find_if(plan.steps.begin(), plan.steps.end(), [](const Step& step) { return step.weighted; });
  while (found != plan.steps.begin() && std::prev(found)->kind == &kZero && std::prev(found)->parameter >= 0) --found;
  return static_cast<size_t>(found - plan.steps.begin());
}

/// Index of the first step of the backward pass.
size_t backward_step(const Plan& plan) {
  const auto found =
      std::find_if(plan.steps.begin(), plan.steps.end(), [](const Step& step) { return step.phase != Phase::forward; });
  return static_cast<size_t>(found - plan.steps.begin());
}

}  // namespace

void Session::check_input(const Plan& p, const TrainInput& input) const {
  const AdapterSpec& spec = adapters_[0]->spec();
  if (input.last_rank_only)
    for (size_t i = 0; i < spec.facts.size(); ++i)
      if (spec.facts[i].a < 0)
        fail("CONFIG", "training only the last rank requires A and B without gains, unlike the adapter at ",
             spec.terms[i].target);
  if (p.updates != spec.state.in_backward)
    fail("CONFIG", "the adapter's gradients have moved since the session was opened; open another session");
  if (spec.state.in_backward != input.update.has_value())
    fail("CONFIG", "the adapter is updated ", spec.state.in_backward ? "in" : "after",
         " the backward pass, but the step ", input.update ? "has an" : "has no", " update");
  if (input.update) {
    check_step(spec, *input.update);
    if (input.update->max_grad_norm > 0)
      fail("CONFIG", "maxGradNorm is ", input.update->max_grad_norm,
           "; updates in the backward pass cannot be clipped by the norm, which is known only after it");
  }
}

/// Index of the first step of `train_step`: 0, or that of the backward pass if the values of the forward pass are kept.
size_t Session::first_step(const Plan& p, const TrainInput& input) {
  const std::optional<Forwarded> forwarded = std::exchange(forwarded_, {});
  if (pipe_) pipe_->begin(input.micro_step, !graph().has_head());
  const bool kept = forwarded && *forwarded == Forwarded{input.step, input.micro_step, adapters_[0]->version()};
  return kept ? backward_step(p) : 0;
}

void Session::forward_step(Context& context, const std::string& name, const TrainInput& input,
                           const CancelFlag& cancel) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::train);
  if (graph().has_head()) fail("CONFIG", "the model has all layers up to the head, so its step is made at once");
  check_input(p, input);
  Executor run(*this, context, p, cancel, &input);
  place_batch(run, input);
  if (pipe_) pipe_->begin(input.micro_step, false);
  forwarded_.reset();
  run.run(0, backward_step(p));
  forwarded_ = Forwarded{input.step, input.micro_step, adapters_[0]->version()};
}

void Session::skip_passes(int64_t forwards, int64_t backwards) {
  forwarded_.reset();
  if (pipe_) pipe_->skip(forwards, backwards);
}

LossResult Session::train_step(Context& context, const std::string& name, const TrainInput& input,
                               const CancelFlag& cancel, Sums* sums) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::train);
  check_input(p, input);
  Executor run(*this, context, p, cancel, &input, sums);
  if (run.updates_only()) {
    run.run();
    return {.loss_sum = run.loss(), .grad_norm = run.grad_norm()};
  }
  place_batch(run, input);
  place_weights(run, input.weights);
  const int64_t examples = static_cast<int64_t>(input.cu_seqlens.size()) - 1;
  const Ptr<float> gradients = example_gradients();
  if (gradients)
    run.device->launch(Zero{gradients.as<std::byte>(), examples * adapters_[0]->spec().trained_elements * 4}, {});
  run.run(first_step(p, input), p.steps.size());
  LossResult result{run.loss(), run.head_rows};
  if (input.update) result.grad_norm = run.grad_norm();
  if (gradients) add_examples(context, input, gradients, result);
  if (p.options.row_weights) result.log_probs = log_probs(run);
  result.hits = hits(run);
  return result;
}

LossResult Session::score_step(Context& context, const std::string& name, const TrainInput& input,
                               const CancelFlag& cancel, Sums* sums) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::train);
  if (!p.options.two_passes) fail("CONFIG", "plan '", name, "' makes one pass; a step in halves needs two");
  check_input(p, input);
  Executor run(*this, context, p, cancel, &input, sums);
  place_batch(run, input);
  run.run(0, weighted_step(p));
  scored_ = {name, input, adapters_[0]->version()};
  return {.loss_sum = run.loss(), .count = run.head_rows, .log_probs = log_probs(run), .hits = hits(run)};
}

LossResult Session::finish_step(Context& context, const std::vector<float>& weights, const CancelFlag& cancel,
                                Sums* sums) {
  if (!scored_) fail("CONFIG", "there is no step whose first half was made right before");
  const Scored half = std::move(*scored_);
  scored_.reset();
  if (half.version != adapters_[0]->version()) fail("CONFIG", "the adapter has changed between the halves of a step");
  const Plan& p = plan(half.plan);
  check_input(p, half.input);
  Executor run(*this, context, p, cancel, &half.input, sums);
  place_batch(run, half.input);
  place_weights(run, weights);
  run.run(weighted_step(p), p.steps.size());
  LossResult result{loss_sum(run), run.head_rows};
  if (half.input.update) result.grad_norm = run.grad_norm();
  return result;
}

/// Gradient of each sequence in private training by example, [sequences, trained elements]; else null.
Ptr<float> Session::example_gradients() const {
  if (adapters_.empty() || !adapters_[0]->spec().by_example()) return {};
  return memory_->examples->bytes() > 0 ? memory_->examples->data().as<float>()
                                        : adapters_[0]->span(AdapterArray::gradient);
}

/// The mean over each example's own labels is what counts as its gradient, whatever its length.
void Session::add_examples(Context& context, const TrainInput& input, Ptr<float> gradients, LossResult& result) {
  Adapter& adapter = *adapters_[0];
  const auto& cu = input.cu_seqlens;
  const int64_t elements = adapter.spec().trained_elements;
  for (size_t s = 0; s + 1 < cu.size(); ++s, gradients = gradients + elements) {
    const HostView<const float> gradient(device_memory_, gradients, elements, "example gradients");
    const auto labels = input.labels.begin();
    const auto labeled = cu[s + 1] - cu[s] - std::count(labels + cu[s], labels + cu[s + 1], -100);
    const double weight = labeled == 0 ? 0 : 1.0 / static_cast<double>(labeled) / input.loss_scale;
    result.norms.push_back(add_gradient(context, adapter, {input.active_rank, input.last_rank_only}, gradient.data(),
                                        weight, input.clipping_norm));
  }
}

void Session::sum_gradients(Context& context, const std::string& name, Sums& sums, Link* link) {
  const Adapter& adapter = *adapters_.at(0);
  if (link != nullptr && &link->memory() == &device_memory_) {
    // The arena is free between passes.
    scored_.reset();
    forwarded_.reset();
    const Ptr<float> gradients = adapter.span(AdapterArray::gradient);
    if (sum_over_link(*context.comm, *link, gradients, adapter.spec().trained_elements, *memory_->arena)) return;
  }
  const std::vector<GradientBucket> buckets = gradient_buckets(plan_of_mode(plan(name), Mode::train), adapter.spec());
  const HostView<float> gradients(device_memory_, adapter.span(AdapterArray::gradient), adapter.spec().trained_elements,
                                  "gradients");
  for (auto i = static_cast<size_t>(sums.added()); i < buckets.size(); ++i)
    sums.add(gradients.data() + buckets[i].begin, buckets[i].count, adapters_[0]);
  sums.wait();
}

LossResult Session::evaluate(Context& context, const std::string& name, const MicroBatch& batch,
                             const CancelFlag& cancel, float temperature, Wanted wanted) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::evaluate);
  Executor run(*this, context, p, cancel);
  run.temperature = temperature;
  place_batch(run, batch);
  forwarded_.reset();
  if (pipe_) pipe_->begin(0, false);
  run.run();
  LossResult result{loss_sum(run), run.head_rows};
  if (wanted.log_probs) result.log_probs = log_probs(run);
  result.hits = hits(run);
  if (!wanted.logits) return result;
  if (run.head_rows > p.head_chunk)
    fail("CONFIG", "the logits of ", run.head_rows, " rows are wanted, and the plan holds ", p.head_chunk,
         " at a time");
  const auto found = run.view<float>(p.logits, run.head_rows * graph().labels, "logits");
  result.logits.assign(found.begin(), found.end());
  return result;
}

HostView<const float> Session::forward(Context& context, const std::string& name, const ForwardInput& input,
                                       const CancelFlag& cancel) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::forward);
  Executor run(*this, context, p, cancel);
  check_tokens(run, input.tokens);
  const int64_t count = static_cast<int64_t>(input.tokens.size());
  if (input.past < 0 || input.past + count > p.options.kv_capacity)
    fail("SHAPE", "tokens ", input.past, " to ", input.past + count, " do not fit a KV cache of ",
         p.options.kv_capacity, " tokens");
  if (input.reach != 0 && input.reach < input.past + count)
    fail("SHAPE", "the text has ", input.past + count, " tokens, more than the ", input.reach, " that it was to reach");
  if (static_cast<int64_t>(input.rows.size()) > p.options.head_rows)
    fail("SHAPE", input.rows.size(), " rows of logits were requested; this plan supports at most ",
         p.options.head_rows);
  for (const int32_t row : input.rows)
    if (row < 0 || row >= count) fail("SHAPE", "row ", row, " of ", count, " tokens does not exist");
  const std::vector<int32_t> cu{0, static_cast<int32_t>(count)};
  run.tokens = count;
  run.past = input.past;
  run.head_rows = static_cast<int64_t>(input.rows.size());
  run.host_seqlens = cu;
  run.upload(p.tokens, input.tokens);
  place_positions(run, cu, {input.past}, {input.reach});
  run.upload(p.head_index, input.rows);
  rewind(run, std::exchange(kept_after_, -1));
  run.run();
  kept_after_ = input.past + count;
  return run.view<float>(p.logits, run.head_rows * graph().labels, "logits");
}

void Session::check_texts(const Plan& p, const std::vector<TextInput>& texts) const {
  for (const Node& node : graph().nodes)
    if (state_block(node.op) > 0)
      fail("UNSUPPORTED", "texts cannot be continued side by side, since ", name_of(node.op), " at ", node.path,
           " keeps states of one text");
  if (texts.empty()) fail("SHAPE", "there are no texts to continue");
  // What is computed for all adapters of the session together acts only on texts that use all of them.
  const bool whole = std::all_of(texts.begin(), texts.end(),
                                 [&](const TextInput& text) { return text.adapters.size() == adapters_.size(); });
  for (const std::shared_ptr<const Term>& term : p.terms)
    if (!whole && !term->adds_alone())
      fail("UNSUPPORTED", "texts with different adapters cannot be continued side by side where an adapter does more ",
           "than add to products");
  for (const CopyRef& copy : p.copies)
    if (!whole && copy.adapter >= 0)
      fail("UNSUPPORTED", "texts with different adapters cannot be continued side by side where an adapter replaces a ",
           "weight");
  std::vector<std::pair<int64_t, int64_t>> parts;
  for (const TextInput& text : texts) {
    const auto count = static_cast<int64_t>(text.tokens.size());
    const int64_t length = text.past + count;
    if (count == 0) fail("SHAPE", "a text has no new tokens");
    if (text.past < 0 || text.begin < 0 || text.begin + length > p.options.kv_capacity)
      fail("SHAPE", "tokens ", text.begin, " to ", text.begin + length, " do not fit a KV cache of ",
           p.options.kv_capacity, " tokens");
    if (text.reach != 0 && text.reach < length)
      fail("SHAPE", "a text has ", length, " tokens, more than the ", text.reach, " that it was to reach");
    int32_t least = 0;
    for (const int32_t adapter : text.adapters) {
      if (adapter < least || adapter >= static_cast<int32_t>(adapters_.size()))
        fail("SHAPE", "the session has ", adapters_.size(), " adapters, and a text uses number ", adapter,
             ", which must be one of them and above those before it");
      least = adapter + 1;
    }
    parts.emplace_back(text.begin, text.begin + length);
  }
  std::sort(parts.begin(), parts.end());
  for (size_t i = 1; i < parts.size(); ++i)
    if (parts[i].first < parts[i - 1].second)
      fail("SHAPE", "two texts share the tokens from ", parts[i].first, " on of the KV cache");
}

HostView<const float> Session::decode(Context& context, const std::string& name, const std::vector<TextInput>& texts,
                                      const CancelFlag& cancel) {
  scored_.reset();
  const Plan& p = plan_of_mode(plan(name), Mode::forward);
  check_texts(p, texts);
  Executor run(*this, context, p, cancel);
  std::vector<int32_t> tokens, rows;
  std::vector<int64_t> past, reach;
  std::vector<int32_t> cu{0};
  for (const TextInput& text : texts) {
    tokens.insert(tokens.end(), text.tokens.begin(), text.tokens.end());
    cu.push_back(static_cast<int32_t>(tokens.size()));
    past.push_back(text.past);
    reach.push_back(text.reach);
    if (text.sampling) rows.push_back(cu.back() - 1);
  }
  check_tokens(run, tokens);
  if (static_cast<int64_t>(rows.size()) > p.options.head_rows)
    fail("SHAPE", rows.size(), " rows of logits were requested; this plan supports at most ", p.options.head_rows);
  run.tokens = cu.back();
  run.head_rows = static_cast<int64_t>(rows.size());
  run.host_seqlens = cu;
  run.upload(p.tokens, tokens);
  place_positions(run, cu, past, reach);
  run.upload(p.head_index, rows);
  kept_after_ = -1;
  run.run(texts);
  return run.view<float>(p.logits, run.head_rows * graph().labels, "logits");
}

void Session::copy_cache(Context& context, const std::string& name, int64_t from, int64_t to, int64_t tokens) {
  const Plan& p = plan_of_mode(plan(name), Mode::forward);
  const int64_t capacity = p.options.kv_capacity;
  if (tokens < 0 || from < 0 || to < 0 || std::max(from, to) + tokens > capacity ||
      std::max(from, to) < std::min(from, to) + tokens)
    fail("SHAPE", "tokens ", from, " to ", from + tokens, " of a KV cache of ", capacity, " cannot be copied to ", to);
  Executor run(*this, context, p, nullptr);
  copy_states(run, from, to, tokens);
}

}  // namespace lowrank
