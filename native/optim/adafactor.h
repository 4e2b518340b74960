// Adafactor: the second moments of a matrix are kept as the means of its rows and columns alone.
// Shazeer and Stern 2018, arXiv 1804.04235; the arithmetic is that of transformers' Adafactor without momentum.
#pragma once

#include <cstdint>
#include <vector>

#include "adapters/adapter.h"
#include "core/pool.h"

namespace lowrank {

struct Adafactor {
  double learning_rate = 0, weight_decay = 0;
  double decay_rate = -0.8;      // of the means: at step t they keep 1 - t^decay_rate
  double epsilon = 1e-30;        // added to squares of gradients
  double least_scale = 1e-3;     // of a parameter's root mean square, where that scales the rate
  double clip_threshold = 1;     // root mean square that an update is scaled down to
  bool scale_parameter = false;  // the rate is a share of the parameter's root mean square
  int64_t step = 1;              // from 1
  double grad_scale = 1;         // multiplies every gradient before use (clipping)
};

/// Updates a parameter p [rows, cols], with the arrays of its state. Sums are made in a fixed order, so the bits do not
/// depend on the number of threads.
void adafactor(Pool& pool, const Adafactor& options, int64_t rows, int64_t cols, const float* gradient,
               const std::vector<StateView>& state, float* p);

}  // namespace lowrank
