// A range of columns of a value, or of each of its heads, such as the queries in a fused projection to queries, keys, and
// values.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules slice;

}  // namespace lowrank
