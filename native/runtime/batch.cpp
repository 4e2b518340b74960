// The calls of a session: a micro-batch is checked and placed, its plan is executed, and what it leaves is read.
#include <algorithm>

#include "core/error.h"
#include "optim/private_sum.h"
#include "runtime/execute.h"

namespace lowrank {
namespace {

void check_tokens(const std::vector<int32_t>& tokens, const Plan& plan, const Graph& graph) {
  if (tokens.empty() || static_cast<int64_t>(tokens.size()) > plan.options.tokens)
    fail("SHAPE", "the batch has ", tokens.size(), " tokens; this plan takes 1 to ", plan.options.tokens);
  for (const int32_t id : tokens)
    if (id < 0 || id >= graph.vocab_size)
      fail("DATA", "token id ", id, " lies outside the model's vocabulary of ", graph.vocab_size);
}

/// Fills tokens, positions and the labeled rows of a micro-batch; returns the number of labeled rows.
int64_t place_batch(const Executor& run, const Plan& plan, const Graph& graph, const MicroBatch& batch) {
  check_tokens(batch.tokens, plan, graph);
  const auto& cu = batch.cu_seqlens;
  const int32_t count = static_cast<int32_t>(batch.tokens.size());
  if (cu.size() < 2 || static_cast<int64_t>(cu.size()) - 1 > plan.options.sequences || cu.front() != 0 ||
      cu.back() != count || !std::is_sorted(cu.begin(), cu.end()))
    fail("SHAPE", "cuSeqlens must rise from 0 to the ", count, " tokens over 1 to ", plan.options.sequences, " sequences");
  if (batch.labels.size() != batch.tokens.size())
    fail("SHAPE", "labels has ", batch.labels.size(), " entries for ", count, " tokens");
  std::copy(batch.tokens.begin(), batch.tokens.end(), run.host<int32_t>(plan.tokens));
  int32_t* const positions = run.host<int32_t>(plan.positions);
  for (size_t s = 0; s + 1 < cu.size(); ++s)
    for (int32_t i = cu[s]; i < cu[s + 1]; ++i) positions[i] = i - cu[s];
  int64_t labeled = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t label = batch.labels[i];
    if (label == -100) continue;
    if (label < 0 || label >= graph.vocab_size)
      fail("DATA", "label ", label, " lies outside the model's vocabulary of ", graph.vocab_size);
    if (labeled == plan.options.head_rows)
      fail("SHAPE", "the batch has more than ", plan.options.head_rows, " labeled positions, which this plan takes");
    run.host<int32_t>(plan.head_index)[labeled] = i;
    run.host<int32_t>(plan.head_labels)[labeled] = label;
    ++labeled;
  }
  return labeled;
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
  const AdapterSpec& spec = adapters_[0]->spec();
  if (input.last_rank_only)
    for (size_t i = 0; i < spec.facts.size(); ++i)
      if (spec.facts[i].a < 0)
        fail("CONFIG", "the last rank alone is trained only of A and B without gains, unlike the adapter at ",
             spec.terms[i].target);
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
  Executor run(*this, context, p, cancel, &input);
  run.head_rows = place_batch(run, p, graph(), input.batch);
  run.tokens = static_cast<int64_t>(input.batch.tokens.size());
  run.host_seqlens = input.batch.cu_seqlens;
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
    const auto labeled = cu[s + 1] - cu[s] - std::count(labels + cu[s], labels + cu[s + 1], -100);
    const double weight = labeled == 0 ? 0 : 1.0 / static_cast<double>(labeled) / input.loss_scale;
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
  std::copy(input.tokens.begin(), input.tokens.end(), run.host<int32_t>(p.tokens));
  std::copy(input.rows.begin(), input.rows.end(), run.host<int32_t>(p.head_index));
  for (int64_t i = 0; i < count; ++i)
    run.host<int32_t>(p.positions)[i] = static_cast<int32_t>(input.past + i);
  run.run();
  return run.host<float>(p.steps.back().y);
}

}  // namespace lowrank
