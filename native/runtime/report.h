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
  int64_t pinned = 0;  // pinned host memory, alongside a device with its own memory
};

/// A step of a plan: its kernel, the memory in use, and its work.
struct PlanMoment {
  Phase phase;
  const char* kind;      // name
  std::string node;      // path
  int64_t live_bytes;    // in the arena
  double multiply_adds;  // see Step
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
  // Bytes of a paged base that a call of the plan with the largest arena reads from disk, or fetches to the device.
  int64_t paged_read_bytes = 0;
  int64_t offloaded_bytes = 0;  // activations that each training call writes and reads
  // Bytes of paged optimizer state in files or pinned memory that each update reads and writes.
  int64_t paged_state_bytes = 0;
};

/// A paged base before its file exists: its division into spans, and its budget.
struct Paging {
  PageSpans spans;
  int64_t budget;
};

/// Location of a base that is not entirely in device memory.
struct BasePlace {
  bool own_memory = false;  // the device has memory of its own
  const Paging* paging = nullptr;
  const WeightStream* stream = nullptr;
  bool pinned = true;  // whether the stream's image is pinned
};

/// Memory of a session over these plans, from shapes and storage formats alone; equals the memory allocated.
PlanReport report_plans(const Graph& graph, const std::vector<StorageFormat>& formats,
                        const std::vector<const AdapterSpec*>& adapters, const std::map<std::string, Plan>& plans,
                        const BasePlace& base = {});

/// The same for a loaded model.
PlanReport report_plans(const Model& model, const std::vector<const AdapterSpec*>& adapters,
                        const std::map<std::string, Plan>& plans);

}  // namespace lowrank
