// Launches of the gated delta rule.
#pragma once

#include "backends/cuda/launcher.h"
#include "kernels/op_kernels.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const GatedDeltaRule& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const GatedDeltaRuleBackward& k, Ptr<std::byte> workspace);
void run(Launcher& launcher, const DeltaRuleGradient& k, Ptr<std::byte> workspace);

/// Bytes.
int64_t workspace(const Card& card, const GatedDeltaRule& k);
int64_t workspace(const Card& card, const GatedDeltaRuleBackward& k);

}  // namespace lowrank::cuda
