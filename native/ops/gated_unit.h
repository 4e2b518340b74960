// y = silu(gate) * up and gelu(gate) * up, with the tanh approximation of GELU (Shazeer 2020, arXiv 2002.05202).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules swiglu, geglu;

}  // namespace lowrank
