// Attention as launches.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

int64_t workspace(const Card& card, const Attention& kernel);
int64_t workspace(const Card& card, const AttentionBackward& kernel);

void run(Launcher& launcher, const AppendToCache& kernel, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Attention& kernel, Ptr<std::byte> workspace);
void run(Launcher& launcher, const AttentionBackward& kernel, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
