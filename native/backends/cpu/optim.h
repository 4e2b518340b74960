// The optimizer's kernels on the CPU. Sums run in a fixed order, so that bits do not depend on the number of threads.
#pragma once

#include "backends/cpu/ops.h"
#include "kernels/optimizer_kernels.h"

namespace lowrank::cpu {

void update(Pool& pool, const OpKernels& ops, const lowrank::AdamW& k);
void update(Pool& pool, const OpKernels& ops, const lowrank::Sgd& k);
void update(Pool& pool, const OpKernels& ops, const lowrank::Lion& k);
void adafactor(Pool& pool, const Adafactor& k, std::byte* room);
void project_gradient(Pool& pool, const ProjectGradient& k, std::byte* room);
void orthogonal(Pool& pool, const Orthogonal& k, std::byte* room);
void follow_importances(Pool& pool, const FollowImportances& k);

// Bytes of the workspace, 64-byte aligned.
int64_t adafactor_workspace(const Adafactor& k);
int64_t project_gradient_workspace(const ProjectGradient& k, int threads);
int64_t orthogonal_workspace(const Orthogonal& k, int threads);

}  // namespace lowrank::cpu
