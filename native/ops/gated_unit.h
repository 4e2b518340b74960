// y = silu(gate) * up, gelu(gate) * up with the tanh approximation of GELU, and sigmoid(gate) * up (Shazeer 2020, arXiv
// 2002.05202).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules swiglu, geglu, glu;

}  // namespace lowrank
