// Launches of products with Kronecker products, which are never made.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

int64_t workspace(const Card& card, const Kronecker& k);
int64_t workspace(const Card& card, const KroneckerBackward& k);

void run(Launcher& launcher, const Kronecker& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const KroneckerBackward& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const KroneckerC& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SpreadKroneckerC& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
