// Launches of an optimizer's step.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/optimizer_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const AdamW& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Sgd& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Lion& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Adafactor& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const SumOfSquares& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ProjectGradient& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Orthogonal& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const FollowImportances& k, Ptr<std::byte> workspace);

// Bytes.
int64_t workspace(const Card& card, const Adafactor& k);
int64_t workspace(const Card& card, const SumOfSquares& k);
int64_t workspace(const Card& card, const ProjectGradient& k);
int64_t workspace(const Card& card, const Orthogonal& k);

}  // namespace lowrank::cuda
