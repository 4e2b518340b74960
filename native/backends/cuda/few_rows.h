// Products of few rows, whose weights are decoded where they are multiplied.
#pragma once

#include <span>

#include "backends/cuda/launcher.h"
#include "core/precision.h"
#include "kernels/gemm.h"

namespace lowrank::cuda {

/// y = sum over segments of x w^T as GemmNt; false, and nothing done, where there is no such kernel for it.
bool multiply_few_rows(Launcher& launcher, Precision precision, int64_t m, int64_t n, std::span<const Segment> segments,
                       const Output& to, Ptr<std::byte> workspace);
/// The most that it needs for any number of rows.
int64_t few_rows_workspace(bool nt, int64_t n, std::span<const Segment> segments);

}  // namespace lowrank::cuda
