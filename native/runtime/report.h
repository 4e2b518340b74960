// Memory of a session over plans, and the cost of its steps.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/boundary.h"
#include "plan/plan.h"
#include "weights/model.h"
#include "weights/weight_stream.h"

namespace lowrank {

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
