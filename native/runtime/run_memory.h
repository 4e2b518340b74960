// Memory of a session beside weights and adapters: one arena, as large as its largest plan, and what lives between calls.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plan/run.h"

namespace lowrank {

/// Bytes of it, from shapes alone. Throws Error("CONFIG") for sequences that cannot be kept apart.
struct RunMemorySizes {
  RunMemorySizes(const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
                 const std::map<std::string, Plan>& plans);
  int64_t positions = 0;  // that a plan may rotate by
  int64_t arena = 0, kv_cache = 0, moments = 0, examples = 0, rope = 0;
  const Plan* largest = nullptr;         // the plan with the largest arena; null without plans
  const Plan* most_offloaded = nullptr;  // the plan that stashes most; null where none does
};

/// Doubles of the second moments that plans with `output_norms` keep, before a term of the first adapter.
int64_t moments_before(const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                       size_t term);

struct RunMemory {
  /// Throws Error("CONFIG") for plans that cannot share it.
  RunMemory(Memory& memory, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
            const std::map<std::string, Plan>& plans);
  /// Tells a run where it lies.
  void place(Run& run) const;
  /// All of it.
  std::vector<const Allocation*> all() const;

  std::unique_ptr<Allocation> arena, kv_cache;
  std::unique_ptr<Allocation> moments;   // of h at each term of the first adapter, [rank, rank] in double precision
  std::unique_ptr<Allocation> examples;  // gradients of the sequences of a micro-batch, [sequences, trained] f32
  std::unique_ptr<Allocation> rope;      // see rope_table_floats
  std::unique_ptr<Stash> stash;            // of the plan that stashes most

 private:
  int64_t positions_ = 0;
};

}  // namespace lowrank
