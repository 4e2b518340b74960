// Launches that decode weights.
#pragma once

#include "backends/cuda/launcher.h"
#include "backends/cuda/weight.h"
#include "kernels/operands.h"

namespace lowrank::cuda {

/// out[i, j] = w[i, column + j] for all rows and `columns` columns, the first a multiple of 8.
void dequantize(Launcher& launcher, const DeviceWeight& w, int64_t column, int64_t columns, const Matrix& out);

}  // namespace lowrank::cuda
