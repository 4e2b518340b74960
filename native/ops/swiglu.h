// y = silu(gate) * up (Shazeer 2020, arXiv 2002.05202).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules swiglu;

}  // namespace lowrank
