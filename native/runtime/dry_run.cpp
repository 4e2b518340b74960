#include "runtime/dry_run.h"

#include "core/error.h"
#include "plan/planned_adapter.h"
#include "runtime/batch.h"
#include "runtime/run_memory.h"

namespace lowrank {
namespace {

/// An adapter that was trained a step ago.
class TrainedAdapter final : public PlannedAdapter {
 public:
  TrainedAdapter(const AdapterSpec& spec, bool apart) : PlannedAdapter(spec), apart_(apart) {}
  Norms norms(int term, bool base_replaced) const override {
    Norms found = PlannedAdapter::norms(term, base_replaced);
    found.squares_hold = !base_replaced;
    return found;
  }
  Ptr<float> example_gradient(int) const override { return apart_ ? Ptr<float>(kNowhere) : Ptr<float>(); }

 private:
  const bool apart_;  // gradients of examples
};

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

}  // namespace

std::vector<NullDevice::HeldWeight> held_weights(const Graph& graph, const std::vector<StorageFormat>& formats) {
  std::vector<NullDevice::HeldWeight> held;
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const auto& [rows, cols] = std::pair(graph.weights[i].rows, graph.weights[i].cols);
    held.push_back({rows, weight_bytes(formats[i], rows, cols) + constants_bytes(formats[i], rows, cols)});
  }
  return held;
}

void dry_run(const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
             const std::map<std::string, Plan>& plans, const std::string& name, Device& device) {
  const auto found = plans.find(name);
  if (found == plans.end()) fail("CONFIG", "there is no plan '", name, "' to count");
  const Plan& plan = found->second;
  if (plan.options.mode == Mode::forward) fail("CONFIG", "plan '", name, "' generates; only losses are counted");
  const RunMemory memory(device, graph, adapters, plans);
  std::vector<TrainedAdapter> trained;
  for (const AdapterSpec* spec : adapters)
    trained.emplace_back(*spec, plan.options.mode == Mode::train && memory.examples->bytes() > 0);
  std::vector<AdapterRun*> runs;
  for (TrainedAdapter& adapter : trained) runs.push_back(&adapter);
  Run run(graph, plan);
  run.device = &device;
  run.adapters = runs;
  memory.place(run);
  const MicroBatch batch = full_batch(plan.options);
  place_batch(run, batch);
  for (const Step& step : plan.steps) run.execute(step);
  loss_sum(run);
}

}  // namespace lowrank
