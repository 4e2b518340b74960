// Types that the matrix products of all levels share. A product reads its weights from the store of the model, and its
// other operands from the memory that its kernel names.
#pragma once

#include <span>
#include <vector>

#include "backends/cpu/ops_common.h"
#include "backends/cpu/table.h"
#include "quant/weight.h"

namespace lowrank::cpu {

template <class T>
const T* row_as(const WeightView& w, int64_t row) {
  return static_cast<const T*>(w.data) + row * w.ld;
}

/// A segment whose weight is at hand.
struct SegmentView {
  Matrix x;
  WeightView w;
};

/// The segments of one product, without an allocation up to kUsual of them.
class SegmentViews {
 public:
  SegmentViews(const Cpu& cpu, std::span<const Segment> segments);
  SegmentViews(const SegmentViews&) = delete;
  SegmentViews& operator=(const SegmentViews&) = delete;
  operator std::span<const SegmentView>() const { return views_; }
  auto begin() const { return views_.begin(); }
  auto end() const { return views_.end(); }

 private:
  static constexpr size_t kUsual = 16;
  union {
    SegmentView usual_[kUsual];  // only those in use are ever made
  };
  std::vector<SegmentView> more_;
  std::span<SegmentView> views_;
};

}  // namespace lowrank::cpu
