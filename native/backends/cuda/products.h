// Launches of matrix products.
#pragma once

#include "backends/cuda/launcher.h"
#include "backends/cuda/weight.h"
#include "kernels/adapter_kernels.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const Weights& weights, const GemmNt& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Weights& weights, const GroupedGemmNt& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Weights& weights, const GemmNn& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ReduceTokens& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Weights& weights, const AddPair& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SplitPair& k, Ptr<std::byte> workspace);

int64_t workspace(const Card& card, const GemmNt& k);
int64_t workspace(const Card& card, const GroupedGemmNt& k);
int64_t workspace(const Card& card, const GemmNn& k);
int64_t workspace(const Card& card, const ReduceTokens& k);

}  // namespace lowrank::cuda
