// Launches for the small matrices of adapters.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

int64_t workspace(const Card& card, const FoldGradient& k);

void run(Launcher& launcher, const Fold& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const FoldGradient& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const FoldSnapshot& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const BuildPairA& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const FoldPair& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SpreadPairA& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SpreadPairB& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
