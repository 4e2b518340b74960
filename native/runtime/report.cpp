#include "runtime/report.h"

#include <algorithm>

#include "adapters/optimizer_state.h"
#include "os/mapped_file.h"
#include "runtime/run_memory.h"

namespace lowrank {

PlanReport report_plans(const Graph& graph, const std::vector<StorageFormat>& formats,
                        const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                        const BasePlace& base) {
  const auto& [own_memory, paging, stream, image_pinned] = base;
  const RunMemorySizes sizes(graph, adapters, plans);
  const Plan* const plan = sizes.largest;
  std::vector<int64_t> bytes = plan ? plan->peak_rows() : std::vector<int64_t>(kCategories, 0);
  const auto row = [&](Category category) -> int64_t& { return bytes[static_cast<int>(category)]; };
  std::vector<int64_t> pinned(kCategories, 0);
  const std::vector<bool> tables = graph.tables();
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const GraphWeight& w = graph.weights[i];
    if (stream != nullptr && stream->places[i].elements >= 0) {
      if (stream->units_of[i].size() > 1)
        row(Category::quantization_constants) += constants_bytes(formats[i], w.rows, w.cols);
      continue;
    }
    const bool paged = paging != nullptr && w.kind != WeightKind::vector;
    if (!paged) row(Category::weights) += weight_bytes(formats[i], w.rows, w.cols);
    if (!paged || tables[i]) row(Category::quantization_constants) += constants_bytes(formats[i], w.rows, w.cols);
  }
  PlanReport report;
  report.drops_pages = os::drops_pages();
  if (stream != nullptr) {
    row(Category::paged_weights) = stream->device_bytes;
    if (image_pinned) pinned[static_cast<int>(Category::paged_weights)] = stream->image_bytes;
    if (plan != nullptr)
      report.paged_read_bytes = bytes_fetched(*stream, read_order(plan->steps, *plan, graph, plan->options.head_rows));
  } else if (paging != nullptr) {
    row(Category::paged_weights) = std::min(paging->budget, paging->spans.bytes);
    if (plan != nullptr)
      report.paged_read_bytes = bytes_read(
          paging->spans, page_order(paging->spans, read_order(plan->steps, *plan, graph, plan->options.head_rows)),
          paging->budget);
  }
  if (sizes.most_offloaded != nullptr) report.offloaded_bytes = sizes.most_offloaded->offloaded_bytes;
  report.total_parameters = graph.parameters();
  for (const AdapterSpec* spec : adapters) {
    const int64_t kept = spec->keeps_start() ? spec->trained_elements : 0;
    row(Category::adapters) += (spec->elements + kept) * 4 + spec->norm_bytes();
    report.total_parameters += spec->elements;
    for (const WeightCopy& copy : spec->copies)
      report.total_parameters -= spec->parameters[copy.parameter].rows * spec->parameters[copy.parameter].cols;
    if (!spec->trainable) continue;
    row(Category::gradients) += spec->gradient_bytes() + spec->private_sum_bytes();
    const StateLayout state = lay_out_state(*spec);
    row(Category::optimizer) += state.allocated_bytes() * (spec->keeps_start() ? 2 : 1) + spec->tracked_elements * 8;
    report.paged_state_bytes += state.file_bytes();
    report.trainable_parameters += spec->trained_elements;
  }
  if (own_memory) {
    pinned[static_cast<int>(Category::activations)] += report.offloaded_bytes;
    pinned[static_cast<int>(Category::optimizer)] += report.paged_state_bytes;
  }
  row(Category::kv_cache) += sizes.kv_cache;
  row(Category::activations) += sizes.pipe;
  row(Category::gradients) += sizes.examples;
  row(Category::workspace) += sizes.rope + sizes.moments;
  if (plan) {
    const Step& peak = plan->steps[plan->peak_step];
    report.arena_bytes = plan->arena_bytes;
    report.peak_at = std::string(name_of(peak.phase)) + ' ' + peak.kind->name + ' ' + graph.nodes[peak.node].path;
    const std::vector<int64_t> live = plan->live_bytes();
    for (size_t i = 0; i < plan->steps.size(); ++i) {
      const Step& step = plan->steps[i];
      report.timeline.push_back({step.phase, step.kind->name,
                                 step.node < 0 ? std::string() : graph.nodes[step.node].path, live[i],
                                 step.multiply_adds});
    }
  }
  for (int c = 0; c < kCategories; ++c) {
    if (bytes[c] + pinned[c] == 0) continue;
    report.rows.push_back({static_cast<Category>(c), bytes[c], pinned[c]});
    report.peak_bytes += bytes[c];
    report.pinned_bytes += pinned[c];
  }
  return report;
}

PlanReport report_plans(const Model& model, const std::vector<const AdapterSpec*>& adapters,
                        const std::map<std::string, Plan>& plans) {
  std::vector<StorageFormat> formats;
  for (const Weight& weight : model.weights) formats.push_back(weight.format());
  const bool own_memory = model.device != "cpu";
  if (model.stream)
    return report_plans(model.graph, formats, adapters, plans,
                        {own_memory, nullptr, model.stream.get(), model.image != nullptr});
  if (!model.pager) return report_plans(model.graph, formats, adapters, plans, {own_memory});
  const Paging paging{model.pager->spans(), model.pager->budget()};
  return report_plans(model.graph, formats, adapters, plans, {own_memory, &paging});
}

}  // namespace lowrank
