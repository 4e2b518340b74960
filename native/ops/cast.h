// Converts the residual stream to an operand, for linear layers that read it without a norm.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules cast;

}  // namespace lowrank
