// Looks up table rows by token.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules embedding;

}  // namespace lowrank
