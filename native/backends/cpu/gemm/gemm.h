// What the levels' matrix products share. The loops of one product read weights where a store has them, and the rest
// where its kernel says.
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

/// Those of a product; a usual number of them needs no allocation.
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
