// Rows of a weight with the changes of adapters in it: the only place that knows how they go together outside of a run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/term.h"
#include "quant/weight.h"

namespace lowrank {

/// An adapter, a factor of its change, and how many of its ranks are in use (0: all).
struct WeightedAdapter {
  const Adapter* adapter;
  float weight = 1;
  int64_t rank = 0;
};

class MergedRows {
 public:
  /// @param base as it stands, a trained copy of an adapter included
  /// @param target path of the node that the weight is of; none when empty, and then nothing is added
  /// Throws Error("SHAPE") for an adapter that does not fit.
  MergedRows(const WeightView& base, const std::string& name, const std::vector<WeightedAdapter>& adapters,
             const std::string& target);

  int64_t rows() const { return base_.rows; }
  int64_t cols() const { return base_.cols; }

  /// Room for one row at a time of one thread.
  struct Room {
    explicit Room(int64_t cols) : sum(cols), own(cols) {}
    std::vector<float> sum, own;
  };
  /// The row with its changes, in fp32.
  void merged(int64_t row, float* out, Room& room) const;
  /// The change alone.
  void change(int64_t row, float* out, Room& room) const;

 private:
  struct Change {
    std::unique_ptr<DeltaRows> rows;
    float counts = 1;                  // in the rows already, unless there is a magnitude
    HostView<const float> magnitude;   // m: (W + delta) m / ||W + delta|| takes the place of W, row by row
  };
  float sum_changes(int64_t row, const float* base, float* sum, float* own) const;

  WeightView base_;
  std::vector<Change> changes_;
};

}  // namespace lowrank
