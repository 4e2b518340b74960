// Adafactor.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

struct AdafactorSettings {
  double decay_rate = -0.8;      // of the means: their decay at step t is 1 - t^decay_rate
  double epsilon = 1e-30;        // added to squared gradients
  double least_scale = 1e-3;     // minimum root mean square of a parameter, if it scales the rate
  double clip_threshold = 1;     // maximum root mean square of an update
  bool scale_parameter = false;  // the rate is relative to the parameter's root mean square
};

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
