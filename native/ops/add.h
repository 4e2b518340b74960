// out = residual + x, for branches that end in a norm instead of a linear layer.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules add;

}  // namespace lowrank
