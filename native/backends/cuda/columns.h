// What areas share that sum columns by stretches of their rows.
#pragma once

#include "cells.h"

namespace lowrank::cuda {

inline constexpr int kSumThreads = 256, kSumColumns = 256;

}  // namespace lowrank::cuda

#if !LOWRANK_ON_DEVICE
#include "backends/cuda/launcher.h"

namespace lowrank::cuda {

/// Stretches of rows that are summed on their own.
int64_t row_stretches(int64_t rows);
/// to[col] += share[col] * the sum of the stretches of partial [stretches, cols]; null share: ones.
void add_stretches(Launcher& launcher, int64_t cols, int64_t stretches, const float* partial, const float* share,
                   float* to);

}  // namespace lowrank::cuda
#endif
