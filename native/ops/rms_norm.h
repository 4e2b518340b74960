// y = x / rms(x) * w, or * (1 + w), over each row, or over groups of columns if w is shorter, as for per-head norms of
// queries and keys (Zhang and Sennrich 2019, arXiv 1910.07467).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules rms_norm;

}  // namespace lowrank
