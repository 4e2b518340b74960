// Sums of squares, of which norms of gradients are made.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// out = sum over elements of x^2, in double.
struct SumOfSquares {
  static constexpr const char* kName = "sum_of_squares";
  static constexpr bool kNeedsRoom = true;
  int64_t count;
  Ptr<float> x;
  Ptr<double> out;
  void operands(Operands& see) const {
    see.reads(x, count);
    see.writes(out, 1);
  }
};

}  // namespace lowrank
