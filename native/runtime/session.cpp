#include "runtime/session.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>
#include <sstream>

#include "adapters/magnitude.h"
#include "adapters/output_norms.h"
#include "adapters/sites.h"
#include "core/error.h"
#include "core/random.h"
#include "os/process_memory.h"

namespace lowrank {
Model::Model(Graph described) : graph(std::move(described)) {
  graph.check();
  weights.resize(graph.weights.size());
}

std::vector<std::string> Model::missing() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < weights.size(); ++i)
    if (!weights[i]) names.push_back(graph.weights[i].name);
  return names;
}

void Model::expect_loaded() const {
  if (const auto names = missing(); !names.empty())
    fail("CONFIG", "the model is not loaded: ", names.size(), " weights are missing, the first is ", names.front());
}

void Model::expect_whole() const {
  for (const auto& [path, file] : files) file->expect_whole();
}

Held Model::hold(int weight, int64_t begin, int64_t end) const {
  if (!pager) return {};
  const int64_t rows = graph.weights[weight].rows;
  begin = std::clamp<int64_t>(begin, 0, rows);
  end = std::clamp(end, begin, rows);
  const auto [from, to] = pager->spans().of_rows(weight, begin, end);
  int64_t bytes = 0;
  int fitting = from;
  for (; fitting < to; ++fitting)
    if ((bytes += pager->spans().all[fitting].bytes) > pager->budget()) break;
  return {pager.get(), from, fitting};
}

std::unique_ptr<Hold> StoredWeights::hold(const WeightRows& rows) const {
  struct Pinned final : Hold {
    explicit Pinned(Held given) : held(std::move(given)) {}
    Held held;
  };
  if (!model_.pager) return nullptr;
  return std::make_unique<Pinned>(model_.hold(rows.weight, rows.begin, rows.end));
}

int64_t StoredWeights::gathered_bytes(int weight) const {
  return weight_bytes(model_.weights[weight].format(), 1, model_.graph.weights[weight].cols) + 2 * os::page_bytes();
}

int64_t StoredWeights::gathered_at_once(int weight) const {
  constexpr int64_t kMost = 256;
  if (!model_.pager) return 0;
  return std::clamp<int64_t>(model_.pager->budget() / 4 / gathered_bytes(weight), 1, kMost);
}

std::unique_ptr<Hold> StoredWeights::gather(int weight, std::span<const int32_t> rows) const {
  /// Rows of a paged table are read where they lie, and not kept.
  struct Gathered final : Hold {
    Gathered(Pager& from, int of, std::vector<int32_t> which, int64_t row_bytes)
        : pager(from), weight(of), rows(std::move(which)), bytes(static_cast<int64_t>(rows.size()) * row_bytes) {
      pager.take_room(bytes);
      pager.prefetch(weight, rows);
    }
    ~Gathered() override { pager.give_back(bytes, weight, rows); }
    Pager& pager;
    const int weight;
    const std::vector<int32_t> rows;
    const int64_t bytes;
  };
  std::vector<int32_t> read(rows.begin(), rows.end());
  std::sort(read.begin(), read.end());
  read.erase(std::unique(read.begin(), read.end()), read.end());
  return std::make_unique<Gathered>(*model_.pager, weight, std::move(read), gathered_bytes(weight));
}

PlanReport report_plans(const Graph& graph, const std::vector<StorageFormat>& formats,
                        const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                        const Paging* paging) {
  const RunMemorySizes sizes(graph, adapters, plans);
  const Plan* const plan = sizes.largest;
  std::vector<int64_t> bytes = plan ? plan->peak_rows() : std::vector<int64_t>(kCategories, 0);
  const auto row = [&](Category category) -> int64_t& { return bytes[static_cast<int>(category)]; };
  const std::vector<bool> tables = graph.tables();
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const GraphWeight& w = graph.weights[i];
    const bool paged = paging != nullptr && w.kind != WeightKind::vector;
    if (!paged) row(Category::weights) += weight_bytes(formats[i], w.rows, w.cols);
    if (!paged || tables[i]) row(Category::quantization_constants) += constants_bytes(formats[i], w.rows, w.cols);
  }
  PlanReport report;
  if (paging != nullptr) {
    row(Category::paged_weights) = std::min(paging->budget, paging->spans.bytes);
    if (plan != nullptr)
      report.paged_read_bytes = bytes_read(
          paging->spans, page_order(*plan, paging->spans, plan->options.head_rows), paging->budget);
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
  row(Category::kv_cache) += sizes.kv_cache;
  row(Category::gradients) += sizes.examples;
  row(Category::workspace) += sizes.rope + sizes.moments;
  if (plan) {
    const Step& peak = plan->steps[plan->peak_step];
    report.arena_bytes = plan->arena_bytes;
    report.peak_at = std::string(name_of(peak.phase)) + ' ' + peak.kind->name + ' ' + graph.nodes[peak.node].path;
    const std::vector<int64_t> live = plan->live_bytes();
    for (size_t i = 0; i < plan->steps.size(); ++i) {
      const Step& step = plan->steps[i];
      report.timeline.push_back({step.phase, step.kind->name, step.node < 0 ? std::string() : graph.nodes[step.node].path,
                                 live[i], step.multiply_adds});
    }
  }
  for (int c = 0; c < kCategories; ++c) {
    if (bytes[c] == 0) continue;
    report.rows.push_back({static_cast<Category>(c), bytes[c]});
    report.peak_bytes += bytes[c];
  }
  return report;
}

PlanReport report_plans(const Model& model, const std::vector<const AdapterSpec*>& adapters,
                        const std::map<std::string, Plan>& plans) {
  std::vector<StorageFormat> formats;
  for (const Weight& weight : model.weights) formats.push_back(weight.format());
  if (!model.pager) return report_plans(model.graph, formats, adapters, plans);
  const Paging paging{model.pager->spans(), model.pager->budget()};
  return report_plans(model.graph, formats, adapters, plans, &paging);
}

Session::Session(Context& context, std::shared_ptr<const Model> model, std::vector<std::shared_ptr<Adapter>> adapters,
                 const std::map<std::string, PlanOptions>& plans, std::vector<float> weights,
                 std::vector<int64_t> ranks)
    : threads_(context.device.sizes().threads()),
      device_memory_(context.device.memory()),
      model_(std::move(model)),
      stored_(*model_),
      adapters_(std::move(adapters)),
      adapter_weights_(std::move(weights)),
      adapter_ranks_(std::move(ranks)) {
  if (adapter_weights_.empty()) adapter_weights_.assign(adapters_.size(), 1.0f);
  if (adapter_weights_.size() != adapters_.size())
    fail("CONFIG", "there are ", adapter_weights_.size(), " weights for ", adapters_.size(), " adapters");
  for (const float weight : adapter_weights_)
    if (!std::isfinite(weight)) fail("CONFIG", "the weight of an adapter is ", weight, "; expected a finite number");
  if (adapter_ranks_.empty()) adapter_ranks_.assign(adapters_.size(), 0);
  if (adapter_ranks_.size() != adapters_.size())
    fail("CONFIG", "there are ", adapter_ranks_.size(), " ranks for ", adapters_.size(), " adapters");
  for (const int64_t rank : adapter_ranks_)
    if (rank < 0) fail("CONFIG", "the rank of an adapter is ", rank, "; expected a positive integer, or 0 for all");
  for (size_t i = 0; i < adapters_.size(); ++i)
    if (adapter_weights_[i] != 1 && !adapters_[i]->spec().copies.empty())
      fail("CONFIG", "an adapter that trains base weights is used with a weight of ", adapter_weights_[i],
           "; it replaces them, so expected 1");
  placed_ = context.device.place(stored_);
  if (plans.empty()) fail("CONFIG", "a session needs at least one plan");
  for (const auto& [name, options] : plans) plans_.emplace(name, make_plan(context.device.sizes(), graph(), specs(), options));
  for (const auto& [name, plan] : plans_)
    if (plan.options.mode == Mode::train && adapter_weights_ != std::vector<float>{1.0f})
      fail("CONFIG", "plan '", name, "': an adapter is trained at weight 1, not ", adapter_weights_.front());
  // What loading and the reading of data left behind would count on top of what is allocated now.
  os::trim_heap();
  memory_.emplace(device_memory_, graph(), specs(), plans_);
}

const Plan& Session::plan(const std::string& name) const {
  const auto found = plans_.find(name);
  if (found == plans_.end()) fail("CONFIG", "the session has no plan '", name, "'");
  return found->second;
}

std::vector<const AdapterSpec*> Session::specs() const {
  std::vector<const AdapterSpec*> specs;
  for (const auto& adapter : adapters_) specs.push_back(&adapter->spec());
  return specs;
}

PlanReport Session::report(const std::string& name) const {
  return report_plans(*model_, specs(), {{name, plan(name)}});
}

PlanReport Session::total() const { return report_plans(*model_, specs(), plans_); }

Ptr<double> Session::moment(size_t term) const {
  return memory_->moments->data().as<double>() + moments_before(specs(), plans_, term);
}

std::vector<double> Session::output_norms() const {
  if (memory_->moments->bytes() == 0) fail("CONFIG", "no plan of the session measures outputs");
  const Adapter& adapter = *adapters_[0];
  const AdapterSpec& spec = adapter.spec();
  const HostView<const double> moments(device_memory_, memory_->moments->data().as<double>(),
                                       memory_->moments->bytes() / static_cast<int64_t>(sizeof(double)), "second moments");
  std::vector<double> norms;
  for (size_t i = 0; i < spec.terms.size(); ++i) {
    const int64_t rank = spec.facts[i].rank;
    if (rank == 0)
      fail("UNSUPPORTED", "adapter at ", spec.terms[i].target, ": what a ", spec.terms[i].kind, " adds is not measured");
    // Terms of the first adapter come first, in its order.
    const std::vector<float> folded = plans_.begin()->second.terms[i]->folded(adapter);
    const double* const moment = moments.data() + moments_before(specs(), plans_, i);
    norms.push_back(output_norm(static_cast<int64_t>(folded.size()) / rank, rank, folded.data(), moment));
  }
  return norms;
}

std::string Session::times_text() const {
  std::vector<std::pair<double, std::pair<Phase, std::string_view>>> order;
  double total = 0;
  {
    const std::lock_guard lock(times_mutex_);
    for (const auto& [key, seconds] : seconds_) {
      order.emplace_back(seconds, key);
      total += seconds;
    }
  }
  std::sort(order.rbegin(), order.rend());
  std::ostringstream text;
  text << std::fixed;
  for (const auto& [seconds, key] : order)
    text << std::setprecision(3) << seconds << " s  " << std::setprecision(1) << 100 * seconds / total << " %  "
         << name_of(key.first) << ' ' << key.second << '\n';
  if (model_->pager) {
    const auto [bytes, waited] = model_->pager->times();
    text << std::setprecision(3) << waited << " s  of these waiting for " << bytes << " bytes of the base\n";
  }
  return text.str();
}

void copy_weight_into(Context& context, const Model& model, const std::string& weight, Adapter& adapter,
                      int parameter) {
  const auto found = model.graph.weight_of_name.find(weight);
  if (found == model.graph.weight_of_name.end()) fail("CONFIG", "the model has no weight '", weight, "'");
  const Weight& source = model.weights[found->second];
  if (!source) fail("CONFIG", "weight '", weight, "' is not loaded");
  const ParameterSpec& own = adapter.spec().parameters[parameter];
  if (own.rows != source.rows() || own.cols != source.cols())
    fail("SHAPE", "adapter parameter ", own.name, " is [", own.rows, ", ", own.cols, "] but ", weight, " is [",
         source.rows(), ", ", source.cols(), "]");
  const HostView<float> out = adapter.edit(parameter);
  const WeightView view = source.view();
  for (int64_t first = 0; first < own.rows; first += kTableRows) {
    const int64_t count = std::min(kTableRows, own.rows - first);
    const Held held = model.hold(found->second, first, first + count);
    context.pool.for_range(count, std::max<int64_t>(1, 65536 / own.cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = first + begin; row < first + end; ++row)
        decode_row(view, row, 0, own.cols, out.data() + row * own.cols);
    });
  }
  adapter.values_changed();
}

void fill_row_norms(Context& context, const Model& model, Adapter& adapter, int parameter) {
  const AdapterSpec& spec = adapter.spec();
  const auto has = [&](const TermFacts& facts) { return facts.magnitude == parameter; };
  const auto found = std::find_if(spec.facts.begin(), spec.facts.end(), has);
  if (found == spec.facts.end())
    fail("CONFIG", "adapter parameter ", spec.parameters[parameter].name, " is no magnitude of a linear");
  const std::string& target = spec.terms[found - spec.facts.begin()].target;
  const auto node = model.graph.node_of_path.find(target);
  if (node == model.graph.node_of_path.end()) fail("CONFIG", "the model has no linear '", target, "'");
  const int index = model.graph.nodes[node->second].weight;
  const std::string& name = model.graph.weights[index].name;
  const Weight& weight = model.weights[index];
  if (!weight) fail("CONFIG", "weight '", name, "' is not loaded");
  const std::unique_ptr<const Term> term = term_at(spec, target, name, weight.rows(), weight.cols());
  const Held held = model.hold(index);
  fill_magnitude(context.pool, adapter, *term, weight.view(), adapter.edit(parameter).data());
  adapter.values_changed();
}

int32_t sample_token(const float* logits, int64_t vocab, const Sampling& sampling) {
  for (int64_t i = 0; i < vocab; ++i)
    if (!std::isfinite(logits[i]))
      fail("DIVERGED", "the logit of token ", i, " is ", logits[i], ", so no token can be drawn; the weights or the ",
           "adapter hold values that are not finite");
  const float* const best = std::max_element(logits, logits + vocab);
  if (sampling.temperature <= 0) return static_cast<int32_t>(best - logits);
  // Tokens come off a heap, the likeliest first, until one is drawn: most often the first few, so not all are sorted. Ties
  // go to the lower id.
  const auto worse = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; };
  const auto mass_of = [&](int64_t id) {
    return std::exp((static_cast<double>(logits[id]) - *best) / sampling.temperature);
  };
  std::vector<int32_t> heap(vocab);
  std::iota(heap.begin(), heap.end(), 0);
  std::make_heap(heap.begin(), heap.end(), worse);
  struct Candidate {
    int32_t id;
    double mass;
  };
  std::vector<Candidate> candidates;
  const auto candidate = [&](size_t index) -> const Candidate& {
    while (candidates.size() <= index) {
      std::pop_heap(heap.begin(), heap.end(), worse);
      candidates.push_back({heap.back(), mass_of(heap.back())});
      heap.pop_back();
    }
    return candidates[index];
  };
  size_t count = static_cast<size_t>(vocab);
  double total = 0;
  if (sampling.top_k > 0 && sampling.top_k < vocab) {
    count = static_cast<size_t>(sampling.top_k);
    for (size_t i = 0; i < count; ++i) total += candidate(i).mass;
  } else {
    for (int64_t id = 0; id < vocab; ++id) total += mass_of(id);
  }
  if (sampling.top_p < 1) {
    double kept = 0;
    size_t enough = 0;
    while (enough < count && kept < sampling.top_p * total) kept += candidate(enough++).mass;
    count = std::max<size_t>(enough, 1);
    total = kept;
  }
  const double draw = counter_hash(sampling.seed, sampling.position) * 0x1p-32 * total;
  double passed = 0;
  for (size_t i = 0; i < count; ++i)
    if ((passed += candidate(i).mass) > draw) return candidate(i).id;
  return candidate(count - 1).id;
}

}  // namespace lowrank
