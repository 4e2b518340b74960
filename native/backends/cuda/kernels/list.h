// All kernels of all areas.
#pragma once

#include "backends/cuda/kernels/norm.h"

/// X(kernel, Args) for every kernel.
#define LOWRANK_ALL_KERNELS(X) LOWRANK_NORM_KERNELS(X)
