// Memory of a session over plans, and the cost of its steps.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plan/plan.h"
#include "weights/model.h"
#include "weights/weight_stream.h"

namespace lowrank {

struct PlanRow {
  Category category;
  int64_t bytes;       // of the device's memory
  int64_t pinned = 0;  // of the host's, beside that of a device of its own
};

/// A step of a plan: what it is, what is live meanwhile, and what it multiplies.
struct PlanMoment {
  Phase phase;
  const char* kind;           // name
  std::string node;           // path
  int64_t live_bytes;         // of the arena
  double multiply_adds;       // see Step
};

struct PlanReport {
  int64_t peak_bytes = 0;
  int64_t pinned_bytes = 0;
  std::vector<PlanRow> rows;
  int64_t arena_bytes = 0;
  std::string peak_at;
  std::vector<PlanMoment> timeline;  // of the plan with the largest arena
  int64_t trainable_parameters = 0;
  int64_t total_parameters = 0;
  // Bytes of a paged base: read from the disk, or fetched to the device, by a call of the plan with the largest arena.
  int64_t paged_read_bytes = 0;
  int64_t offloaded_bytes = 0;   // of activations: each training call writes and reads them
  // Bytes of paged optimizer state in files, or in pinned memory; each update reads and writes them.
  int64_t paged_state_bytes = 0;
};

/// A base that is paged, before there is a file: how it is cut, and its budget.
struct Paging {
  PageSpans spans;
  int64_t budget;
};

/// Where a base lies that is not in the memory of the device whole.
struct BasePlace {
  bool own_memory = false;  // the device has memory of its own
  const Paging* paging = nullptr;
  const WeightStream* stream = nullptr;
  bool pinned = true;  // the stream's image
};

/// Memory of a session over these plans, from shapes and storage formats alone; equal to the allocated memory.
PlanReport report_plans(const Graph& graph, const std::vector<StorageFormat>& formats,
                        const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                        const BasePlace& base = {});

/// The same of a loaded model.
PlanReport report_plans(const Model& model, const std::vector<const AdapterSpec*>& adapters,
                        const std::map<std::string, Plan>& plans);

}  // namespace lowrank
