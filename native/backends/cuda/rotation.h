// Launches of rotations of blocks of columns.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"

namespace lowrank::cuda {

int64_t workspace(const Card& card, const CayleyNeumann& k);
int64_t workspace(const Card& card, const CayleyNeumannBackward& k);
int64_t workspace(const Card& card, const RotateBySeries& k);
int64_t workspace(const Card& card, const RotationGradient& k);

void run(Launcher& launcher, const CayleyNeumann& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const CayleyNeumannBackward& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Rotate& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const RotateBySeries& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const RotationGradient& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
