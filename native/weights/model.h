// A model: its graph, and its weights where they are loaded or lie in files.
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
  std::string device = "cpu";  // that sessions run on
  std::vector<Weight> weights;  // parallel to graph.weights; empty until loaded
  std::vector<Claim> mapped;    // of weights that lie in a file
  std::unique_ptr<Pager> pager;  // where only a part of them is in memory at a time
  std::unique_ptr<const WeightStream> stream;  // of a base that passes through the memory of its device
  std::shared_ptr<std::byte> image;            // where its matrices lie then; null where they stay in their file
  /// Files that weights stay in, by path; only jobs look here, and those follow one another.
  std::map<std::string, std::shared_ptr<const os::MappedFile>> files;

  explicit Model(Graph described);
  std::vector<std::string> missing() const;
  /// Throws Error("CONFIG") while weights are missing.
  void expect_loaded() const;
  /// Throws Error("FILE_FORMAT") when a file that weights stay in was cut short or could not be read: what was computed
  /// from it does not count.
  void expect_whole() const;
  /// Rows of a weight, in memory for as long as this lives. All of one that is not a table, and as much of a table as the
  /// budget has room for.
  Held hold(int weight, int64_t begin, int64_t end) const;
  Held hold(int weight) const { return hold(weight, 0, graph.weights[weight].rows); }
};

/// A model's weights as a device finds them, paged or not.
class StoredWeights final : public WeightStore {
 public:
  explicit StoredWeights(const Model& model) : model_(model) {}
  void expect_loaded() const override { model_.expect_loaded(); }
  const void* model() const override { return &model_; }
  int count() const override { return static_cast<int>(model_.weights.size()); }
  WeightView view(int weight) const override { return model_.weights[weight].view(); }
  int64_t rows_at_once(int, int64_t rows) const override { return model_.pager ? kTableRows : rows; }
  std::unique_ptr<Hold> hold(const WeightRows& rows) const override;
  /// As many as take a quarter of the pager's budget.
  int64_t gathered_at_once(int weight) const override;
  std::unique_ptr<Hold> gather(int weight, std::span<const int32_t> rows) const override;
  void expect(std::span<const WeightRows> order) const override;
  const WeightStream* stream() const override { return model_.stream.get(); }
  const std::byte* image() const override { return model_.image.get(); }

 private:
  int64_t gathered_bytes(int weight) const;  // of a row, with the pages that it lies in
  const Model& model_;
};

/// Fills an adapter's parameter with the values of a base weight, decoded to fp32. Throws Error("CONFIG") for an unknown
/// or unloaded weight, Error("SHAPE") when the two differ in shape.
void copy_weight_into(Context& context, const Model& model, const std::string& weight, Adapter& adapter, int parameter);

/// Fills a magnitude with the norms of the rows that it stands for, W_i + delta_i with the other values as they are, so
/// that the adapted linear gives what it would give without a magnitude. Throws as copy_weight_into.
void fill_row_norms(Context& context, const Model& model, Adapter& adapter, int parameter);

}  // namespace lowrank
