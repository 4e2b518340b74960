// Launches of factors of rows.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const DrawRows& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const AddRatios& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const RatiosOver& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const MagnitudeGains& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
