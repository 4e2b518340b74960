// Launches of what treats elements one by one.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/adapter_kernels.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const Rope& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const GatherRows& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ScatterAddRows& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Zero& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Cast& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const AddConstant& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const Dropout& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const DropoutBackward& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const AddNoise& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const ScaleColumns& k, Ptr<std::byte> workspace);

}  // namespace lowrank::cuda
