// The ends of a part of a model: hidden states come from the rank with the layers before it, and go to the one behind.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules receive, send;

}  // namespace lowrank
