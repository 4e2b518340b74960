// The loss as launches.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const CrossEntropy& kernel, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
