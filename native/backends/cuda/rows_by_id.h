// Launches of copies and sums of columns that are picked by ids of tokens.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const GatherColumns& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ScatterColumns& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
