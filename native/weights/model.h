// A model: its graph, and its weights, in memory or in files.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "core/context.h"
#include "device/weight_store.h"
#include "graph/graph.h"
#include "weights/pager.h"
#include "weights/weights.h"

namespace lowrank {

struct Model {
  Graph graph;
  std::string device = "cpu";                  // device of its sessions
  std::vector<Weight> weights;                 // parallel to graph.weights; empty until loaded
  std::vector<Claim> mapped;                   // for weights in a file
  std::unique_ptr<Pager> pager;                // if only part of them is in memory at a time
  std::unique_ptr<const WeightStream> stream;  // for a base streamed through device memory
  std::shared_ptr<std::byte> image;            // its matrices in that case; null if they stay in their file
  /// Files that contain weights, by path; accessed only by jobs, which run one at a time.
  std::map<std::string, std::shared_ptr<const os::MappedFile>> files;

  explicit Model(Graph described);
  std::vector<std::string> missing() const;
  /// Throws Error("CONFIG") while weights are missing.
  void expect_loaded() const;
  /// Throws Error("FILE_FORMAT") when a file with weights was truncated or could not be read, which invalidates results
  /// computed from it.
  void expect_whole() const;
  /// Rows of a weight, kept in memory for the object's lifetime: all rows of a matrix, or as much of a table as fits
  /// the budget.
  Held hold(int weight, int64_t begin, int64_t end) const;
  Held hold(int weight) const { return hold(weight, 0, graph.weights[weight].rows); }
};

/// A model's weights as seen by a device, paged or not.
class StoredWeights final : public WeightStore {
 public:
  explicit StoredWeights(const Model& model) : model_(model) {}
  void expect_loaded() const override { model_.expect_loaded(); }
  const void* model() const override { return &model_; }
  int count() const override { return static_cast<int>(model_.weights.size()); }
  WeightView view(int weight) const override { return model_.weights[weight].view(); }
  int64_t rows_at_once(int, int64_t rows) const override { return model_.pager ? kTableRows : rows; }
  std::unique_ptr<Hold> hold(const WeightRows& rows) const override;
  /// As many as fit in a quarter of the pager's budget.
  int64_t gathered_at_once(int weight) const override;
  std::unique_ptr<Hold> gather(int weight, std::span<const int32_t> rows) const override;
  void expect(std::span<const WeightRows> order) const override;
  const WeightStream* stream() const override { return model_.stream.get(); }
  const std::byte* image() const override { return model_.image.get(); }

 private:
  int64_t gathered_bytes(int weight) const;  // per row, including its pages
  const Model& model_;
};

/// Fills an adapter's parameter with the values of a base weight, decoded to fp32. Throws Error("CONFIG") for an
/// unknown or unloaded weight, Error("SHAPE") when the two differ in shape.
void copy_weight_into(Context& context, const Model& model, const std::string& weight, Adapter& adapter, int parameter);

/// Fills a magnitude with the norms of the rows it scales, W_i + delta_i with the current factor values, so that the
/// adapted layer's output is the same as without a magnitude. Throws as copy_weight_into.
void fill_row_norms(Context& context, const Model& model, Adapter& adapter, int parameter);

}  // namespace lowrank
