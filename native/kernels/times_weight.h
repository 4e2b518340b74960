// A matrix times a weight, element by element: HiRA's change of a weight from B A, and the gradient at B A from that at
// the change (Huang et al. 2025, OpenReview TwJrTz9cRS).
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// values [w.rows, w.cols] = W * (own + values), element by element. With `own` 1 it is the changed weight, with 0 the
/// change alone.
struct TimesWeight {
  static constexpr const char* kName = "times_weight";
  static constexpr bool kNeedsRoom = true;
  Factor w;
  float own;
  Ptr<float> values;
  void operands(Operands& see) const {
    see.reads(w);
    see.adds(values, w.rows * w.cols);
  }
};

}  // namespace lowrank
