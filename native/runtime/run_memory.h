// Memory of a session other than weights and adapters: an arena the size of its largest plan, and persistent data.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plan/run.h"

namespace lowrank {

/// Sizes in bytes, from shapes alone. Throws Error("CONFIG") for sequences that cannot be kept separate.
struct RunMemorySizes {
  RunMemorySizes(const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
                 const std::map<std::string, Plan>& plans);
  int64_t positions = 0;  // number that a plan may rotate by
  int64_t tokens = 0;     // of the largest plan
  int64_t arena = 0, kv_cache = 0, moments = 0, examples = 0, rope = 0, pipe = 0;
  const Plan* largest = nullptr;         // the plan with the largest arena; null without plans
  const Plan* most_offloaded = nullptr;  // the plan that offloads most; null if none does
};

/// Number of doubles in the second moments kept by plans with `output_norms`, before a term of the first adapter.
int64_t moments_before(const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                       size_t term);

struct RunMemory {
  /// Throws Error("CONFIG") for plans that cannot share the memory.
  RunMemory(Memory& memory, const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
            const std::map<std::string, Plan>& plans);
  /// Gives a run its addresses.
  void place(Run& run) const;
  /// Tokens of the largest plan.
  int64_t tokens() const { return tokens_; }
  /// All allocations.
  std::vector<const Allocation*> all() const;

  std::unique_ptr<Allocation> arena, kv_cache;
  std::unique_ptr<Allocation> moments;   // of h at each term of the first adapter, [rank, rank] in double precision
  std::unique_ptr<Allocation> examples;  // gradients of the sequences of a micro-batch, [sequences, trained] f32
  std::unique_ptr<Allocation> rope;      // see rope_table_floats
  std::unique_ptr<Stash> stash;          // of the plan that offloads most

 private:
  int64_t positions_ = 0, tokens_ = 0;
};

}  // namespace lowrank
