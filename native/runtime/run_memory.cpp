#include "runtime/run_memory.h"

#include <algorithm>

#include "core/error.h"
#include "core/math.h"
#include "ops/rope.h"
#include "runtime/pipe.h"

namespace lowrank {
namespace {

/// The cache is laid out by a plan's capacity and precision: plans that go on from each other's tokens need the same.
void check_one_cache(const std::map<std::string, Plan>& plans) {
  const std::pair<const std::string, Plan>* first = nullptr;
  for (const auto& entry : plans) {
    const PlanOptions& options = entry.second.options;
    if (options.mode != Mode::forward) continue;
    if (first == nullptr) first = &entry;
    if (options.kv_capacity != first->second.options.kv_capacity ||
        options.precision != first->second.options.precision)
      fail("CONFIG", "plans '", first->first, "' and '", entry.first,
           "' share one KV cache, so kvCapacity and precision must be the same");
  }
}

/// Bytes of the gradients that private training by example keeps apart where a micro-batch has several; the gradient of
/// one alone is the adapter's.
int64_t example_bytes(const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans) {
  if (adapters.empty() || !adapters[0]->by_example()) return 0;
  int64_t sequences = 0;
  for (const auto& [name, plan] : plans)
    if (plan.options.mode == Mode::train) sequences = std::max(sequences, plan.options.sequences);
  if (sequences <= 1) return 0;
  if (adapters[0]->blends_examples())
    fail("CONFIG",
         "example-level private training of base weights or embedding factors needs plans of one sequence "
         "at a time, but a plan has room for ",
         sequences);
  return sequences * adapters[0]->trained_elements * 4;
}

std::vector<float> rope_tables(const Graph& graph, int64_t positions) {
  std::vector<float> tables(static_cast<size_t>(rope_table_floats(graph, graph.ropes.size(), positions)));
  float* cos = tables.data();
  for (const Rotary& rope : graph.ropes) {
    const auto pairs = static_cast<int64_t>(rope.inv_freq.size());
    const int64_t rows = rope_rows(rope, positions);
    float* const sin = cos + rows * pairs;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t position = row % positions;
      const std::vector<double>& frequencies = row < positions ? rope.inv_freq : rope.long_inv_freq;
      double factor = rope.attention_factor;
      if (rope.growth != 0)
        factor *= 1 + rope.growth * math::log(1 + static_cast<double>(position / rope.growth_every));
      for (int64_t j = 0; j < pairs; ++j) {
        const auto [sine, cosine] = math::sin_cos(static_cast<double>(position) * frequencies[j]);
        cos[row * pairs + j] = static_cast<float>(cosine * factor);
        sin[row * pairs + j] = static_cast<float>(sine * factor);
      }
    }
    cos = sin + rows * pairs;
  }
  return tables;
}

}  // namespace

int64_t moments_before(const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                       size_t term) {
  bool kept = false;
  for (const auto& [name, plan] : plans) kept = kept || plan.options.output_norms;
  if (!kept || adapters.empty()) return 0;
  int64_t count = 0;
  for (size_t i = 0; i < term; ++i) count += adapters[0]->facts[i].rank * adapters[0]->facts[i].rank;
  return count;
}

RunMemorySizes::RunMemorySizes(const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
                               const std::map<std::string, Plan>& plans) {
  for (const auto& [name, plan] : plans) {
    // A plan's longest sequence is its whole capacity.
    tokens = std::max(tokens, plan.options.tokens);
    positions = std::max({positions, plan.options.tokens, plan.options.kv_capacity});
    kv_cache = std::max(kv_cache, plan.state_bytes);
    if (largest == nullptr || plan.arena_bytes > largest->arena_bytes) largest = &plan;
    if (plan.offloaded_bytes > (most_offloaded == nullptr ? 0 : most_offloaded->offloaded_bytes))
      most_offloaded = &plan;
  }
  if (largest != nullptr) arena = largest->arena_bytes;
  if (!adapters.empty()) moments = 8 * moments_before(adapters, plans, adapters[0]->terms.size());
  examples = example_bytes(adapters, plans);
  rope = 4 * rope_table_floats(graph, graph.ropes.size(), positions);
  pipe = pipe_bytes(graph, tokens);
}

RunMemory::RunMemory(Memory& memory, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
                     const std::map<std::string, Plan>& plans) {
  check_one_cache(plans);
  const RunMemorySizes sizes(graph, adapters, plans);
  positions_ = sizes.positions;
  tokens_ = sizes.tokens;
  arena = memory.allocate(Category::activations, sizes.arena);
  if (const Plan* const plan = sizes.most_offloaded)
    stash = memory.stash(Category::activations, plan->options.offload_folder, plan->offloaded_bytes);
  kv_cache = memory.allocate(Category::kv_cache, sizes.kv_cache);
  moments = memory.allocate(Category::workspace, sizes.moments);
  examples = memory.allocate(Category::gradients, sizes.examples);
  rope = memory.allocate(Category::workspace, sizes.rope);
  const std::vector<float> tables = rope_tables(graph, positions_);
  memory.upload(rope->data(), tables.data(), sizes.rope);
}

void RunMemory::place(Run& run) const {
  run.arena = arena->data();
  run.kv_cache = kv_cache->data();
  run.ropes = rope->data().as<float>();
  run.positions = positions_;
  run.stash = stash.get();
}

std::vector<const Allocation*> RunMemory::all() const {
  return {arena.get(), kv_cache.get(), moments.get(), examples.get(), rope.get()};
}

}  // namespace lowrank
