// Instruction sets of arm64 processors, which only the system may read from the processor.
#pragma once

namespace lowrank::os {

/// Products of bf16 vectors and matrices (FEAT_BF16). False on other processors.
bool multiplies_bf16();

}  // namespace lowrank::os
