// Adafactor.
#pragma once

#include "core/boundary.h"
#include "kernels/operands.h"

namespace lowrank {

/// Adafactor (Shazeer and Stern 2018, arXiv 1804.04235): stores the second moments of a matrix p [rows, cols] only as
/// row and column means, and those of a vector individually. The arithmetic is that of transformers' Adafactor without
/// momentum.
struct Adafactor {
  static constexpr const char* kName = "adafactor";
  static constexpr bool kNeedsRoom = true;
  AdafactorSettings settings;
  double learning_rate, weight_decay;
  int64_t step;       // from 1
  double grad_scale;  // multiplies every gradient before use (clipping)
  int64_t rows, cols;
  Ptr<float> gradient;
  Ptr<float> row, column;  // for a matrix [rows] and [cols]; null for a vector
  Ptr<float> v;            // for a vector
  Ptr<float> p;
  void operands(Operands& see) const {
    see.reads(gradient, rows * cols);
    see.adds(row, rows);
    see.adds(column, cols);
    see.adds(v, rows * cols);
    see.adds(p, rows * cols);
  }
};

}  // namespace lowrank
