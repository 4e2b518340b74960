// Arguments shared by several handles.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adapters/merge.h"
#include "addon/convert.h"

namespace lowrank::addon {

/// The format of every weight of a graph, from an object keyed by name.
std::vector<StorageFormat> to_formats(const Graph& graph, Napi::Value value);
/// The memory budget of a paged base, 0 to choose one; absent for a base that is not paged.
std::optional<int64_t> to_paged(Napi::Value value);
/// Name of the device in options; "cpu" by default.
std::string device_of(const Fields& options);
/// Index of a weight that the graph declares.
int declared(const Model& model, const std::string& name);
int loaded(const Model& model, const std::string& name);

/// Adapters merged into a weight while reading it, captured by a job.
class AdapterList {
 public:
  explicit AdapterList(const Fields& options);

  const std::vector<WeightedAdapter>& list() const { return list_; }
  /// To be held until the job's promise settles.
  std::shared_ptr<void> release_uses() { return std::exchange(uses_, nullptr); }

 private:
  std::vector<std::shared_ptr<Adapter>> owners_;
  std::shared_ptr<std::vector<AdapterUse>> uses_ = std::make_shared<std::vector<AdapterUse>>();
  std::vector<WeightedAdapter> list_;
};

}  // namespace lowrank::addon
