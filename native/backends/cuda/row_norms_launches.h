// Launches of sums in double over rows of weights, of adapters and of activations.
#pragma once

#include "backends/cuda/launcher.h"
#include "backends/cuda/weight.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

int64_t workspace(const Card& card, const SecondMoment& k);

void run(Launcher& launcher, const Weights& weights, const RowSquares& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Gram& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Weights& weights, const AdaptedRowNorms& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SecondMoment& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
