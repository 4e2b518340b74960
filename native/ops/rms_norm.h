// y = x / rms(x) * w, or * (1 + w), over each row, or over each group of columns where w is shorter, as of queries and keys by head
// (Zhang and Sennrich 2019, arXiv 1910.07467).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rms_norm;

}  // namespace lowrank
