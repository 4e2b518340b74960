// Rows of a weight with adapters merged: the only place outside a run that knows how they combine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/term.h"
#include "quant/weight.h"

namespace lowrank {

/// An adapter, the factor on its update, and the number of its ranks in use (0: all).
struct WeightedAdapter {
  const Adapter* adapter;
  float weight = 1;
  int64_t rank = 0;
};

class MergedRows {
 public:
  /// @param base the weight before merging, possibly an adapter's trained copy
  /// @param target path of the node that uses the weight; if empty, nothing is added
  /// Throws Error("SHAPE") for an adapter that does not fit.
  MergedRows(const WeightView& base, const std::string& name, const std::vector<WeightedAdapter>& adapters,
             const std::string& target);

  int64_t rows() const { return base_.rows; }
  int64_t cols() const { return base_.cols; }

  /// Workspace of one thread for one row at a time.
  struct Room {
    explicit Room(int64_t cols) : sum(cols), own(cols) {}
    std::vector<float> sum, own;
  };
  /// The merged row, in fp32.
  void merged(int64_t row, float* out, Room& room) const;
  /// Only the update.
  void change(int64_t row, float* out, Room& room) const;

 private:
  struct Change {
    std::unique_ptr<DeltaRows> rows;
    float counts = 1;                 // already applied to the rows, unless there is a magnitude
    HostView<const float> magnitude;  // m: (W + delta) m / ||W + delta|| replaces W, row by row
  };
  float sum_changes(int64_t row, const float* base, float* sum, float* own) const;

  WeightView base_;
  std::vector<Change> changes_;
};

}  // namespace lowrank
