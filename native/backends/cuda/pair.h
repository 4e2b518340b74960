// Factors of a pair of products of few ranks, as the kernels of adapters and those of products take them.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

/// Factors of the products b a and b2 a2, b [rows, rank] and a [rank, cols].
struct PairOperands {
  int64_t rows, cols, rank, rank2;
  const float *b, *a, *b2, *a2;
};

}  // namespace lowrank::cuda
