#include "weights/model.h"

#include <algorithm>

#include "adapters/magnitude.h"
#include "adapters/sites.h"
#include "core/error.h"
#include "ops/ops.h"
#include "os/mapped_file.h"

namespace lowrank {

Model::Model(Graph described) : graph(std::move(described)) {
  check_graph(graph);
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

void StoredWeights::expect(std::span<const WeightRows> order) const {
  if (model_.pager) model_.pager->expect(page_order(model_.pager->spans(), order));
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

}  // namespace lowrank
