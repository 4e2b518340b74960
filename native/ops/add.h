// out = residual + x, where a branch ends in a norm and not in a linear.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules add;

}  // namespace lowrank
