// y = silu(gate) * up and gelu(gate) * up, of GELU's approximation by tanh (Shazeer 2020, arXiv 2002.05202).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules swiglu, geglu;

}  // namespace lowrank
