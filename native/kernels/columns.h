// Sums over the rows of each column.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// db[c] += sum over rows of dy[r, c].
struct BiasGradient {
  static constexpr const char* kName = "bias_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t rows, cols;
  Matrix dy;
  Ptr<float> db;
  void operands(Operands& see) const {
    see.reads(dy, rows, cols);
    see.adds(db, cols);
  }
};

/// dgain[c] += share[c] * sum over rows of dy x, and dx = dy gain, which may be in place of dy.
struct ScaleColumnsBackward {
  static constexpr const char* kName = "scale_columns_backward";
  static constexpr bool kNeedsRoom = true;
  int64_t rows, cols;
  Matrix dy, x;
  Ptr<float> gain, share;
  Matrix dx;
  Ptr<float> dgain;
  void operands(Operands& see) const {
    see.reads(dy, rows, cols);
    see.reads(x, rows, cols);
    see.reads(gain, cols);
    see.reads(share, cols);
    see.writes(dx, rows, cols);
    see.adds(dgain, cols);
  }
};

}  // namespace lowrank
