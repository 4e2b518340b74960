// Rotary position embedding of queries and keys, in halves (Su et al. 2021, arXiv 2104.09864).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rope;

}  // namespace lowrank
