// Launches of normalization by the root mean square.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const RmsNorm& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const RmsNormBackward& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
