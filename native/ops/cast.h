// The residual stream as an operand, where linears read it without a norm before them.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules cast;

}  // namespace lowrank
