// y = x W^T (+ bias) (+ residual) with the terms of adapters, and its three gradients.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules linear;

}  // namespace lowrank
