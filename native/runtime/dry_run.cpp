#include "runtime/dry_run.h"

#include <algorithm>

#include "core/error.h"
#include "runtime/session.h"

namespace lowrank {
namespace {

/// Full sequences, or as full as they divide the tokens, with labels at the first head rows.
MicroBatch full_batch(const PlanOptions& options) {
  MicroBatch batch;
  batch.tokens.assign(static_cast<size_t>(options.tokens), 0);
  batch.labels.assign(static_cast<size_t>(options.tokens), -100);
  std::fill_n(batch.labels.begin(), std::min(options.tokens, options.head_rows), 0);
  for (int64_t s = 0; s <= options.sequences; ++s)
    batch.cu_seqlens.push_back(static_cast<int32_t>(options.tokens * s / options.sequences));
  return batch;
}

/// A step of the adapter's optimizer. What it is set to decides nothing about its kernels.
OptimizerStep update_of(const AdapterSpec& spec) {
  OptimizerStep step;
  step.kind = spec.state.kind;
  step.beta1 = step.kind == OptimizerKind::sgd && !spec.state.momentum ? 0.0f : 0.9f;
  step.step = 1;
  for (const ParameterSpec& p : spec.parameters)
    step.groups.resize(std::max(step.groups.size(), static_cast<size_t>(p.group + 1)));
  return step;
}

}  // namespace

std::vector<NullDevice::HeldWeight> held_weights(const Graph& graph, const std::vector<StorageFormat>& formats) {
  std::vector<NullDevice::HeldWeight> held;
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const auto& [rows, cols] = std::pair(graph.weights[i].rows, graph.weights[i].cols);
    held.push_back({rows, weight_bytes(formats[i], rows, cols) + constants_bytes(formats[i], rows, cols)});
  }
  return held;
}

DryRun dry_run(const Graph& graph, const std::vector<AdapterSpec>& adapters,
               const std::map<std::string, PlanOptions>& plans, const std::string& name, NullDevice& device) {
  const auto found = plans.find(name);
  if (found == plans.end()) fail("CONFIG", "the session has no plan '", name, "' to count");
  const PlanOptions& options = found->second;
  if (options.mode == Mode::forward)
    fail("CONFIG", "plan '", name, "' is for generation; only training and evaluation can be counted");
  device.number = 1;
  std::vector<std::shared_ptr<Adapter>> made;
  for (const AdapterSpec& spec : adapters) made.push_back(std::make_shared<Adapter>(spec, device));
  Pool pool(1);
  Context context{pool, device};
  Session session(context, std::make_shared<const Model>(graph), made, plans);
  const auto counted = [&](const auto& run) {
    device.counts = {};
    run();
    return device.counts;
  };
  TrainInput input;
  static_cast<MicroBatch&>(input) = full_batch(options);
  if (options.mode == Mode::evaluate) return {counted([&] { session.evaluate(context, name, input, {}); }), {}};
  const AdapterSpec& trained = adapters.at(0);
  const OptimizerStep update = update_of(trained);
  input.clipping_norm = 1;
  if (options.row_weights) input.weights.assign(static_cast<size_t>(std::min(options.tokens, options.head_rows)), 1);
  if (trained.state.in_backward) input.update = update;
  DryRun second;
  for (int step = 0; step < 2; ++step) {
    second.micro_batch = counted([&] { session.train_step(context, name, input, {}); });
    if (!input.update) second.update = counted([&] { optimizer_step(device, *made[0], update); });
  }
  return second;
}

}  // namespace lowrank
