// Normalization by the root mean square.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// y = x rstd w with rstd = 1 / sqrt(mean(x^2) + eps) of each group of columns; x f32 or operand, y operand,
/// rstd [rows, groups], w [cols]. y may be x.
struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  int64_t rows, groups, cols;  // cols of a group
  Matrix x;
  Ptr<float> w;
  float eps;
  Matrix y;
  Ptr<float> rstd;
  void operands(Operands& see) const {
    see.reads(x, rows, groups * cols);
    see.reads(w, cols);
    see.writes(y, rows, groups * cols);
    see.writes(rstd, rows * groups);
  }
};

/// dx += rstd (g - x rstd^2 mean(g x)) with g = dy w; dx and x f32. If dx is dy, it is overwritten, x being an operand.
struct RmsNormBackward {
  static constexpr const char* kName = "rms_norm_backward";
  int64_t rows, groups, cols;
  Matrix dy, x;
  Ptr<float> w, rstd;
  Matrix dx;
  void operands(Operands& see) const {
    see.reads(dy, rows, groups * cols);
    see.reads(x, rows, groups * cols);
    see.reads(w, cols);
    see.reads(rstd, rows * groups);
    dx.data.address() == dy.data.address() ? see.writes(dx, rows, groups * cols) : see.adds(dx, rows, groups * cols);
  }
};

/// dw[c] += sum over rows and groups of dy[r, g, c] x[r, g, c] rstd[r, g].
struct NormGradient {
  static constexpr const char* kName = "norm_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t rows, groups, cols;
  Matrix dy, x;
  Ptr<float> rstd, dw;
  void operands(Operands& see) const {
    see.reads(dy, rows, groups * cols);
    see.reads(x, rows, groups * cols);
    see.reads(rstd, rows * groups);
    see.adds(dw, cols);
  }
};

}  // namespace lowrank
