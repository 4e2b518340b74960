// Launches of sums over the rows of each column.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

/// Stretches of rows that are summed on their own.
int64_t row_stretches(int64_t rows);

void run(Launcher& launcher, const BiasGradient& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ScaleColumnsBackward& k, Ptr<std::byte> workspace);

// Bytes.
int64_t workspace(const Card& card, const BiasGradient& k);
int64_t workspace(const Card& card, const ScaleColumnsBackward& k);

}  // namespace lowrank::cuda
