// Launches of convolutions within columns.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const ShortConv& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SiluConvSlope& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ShortConvBackward& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ShortConvGradient& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const KeepConvInputs& k, Ptr<std::byte> workspace);

/// Bytes.
int64_t workspace(const Card& card, const ShortConvGradient& k);

}  // namespace lowrank::cuda
