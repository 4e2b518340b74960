// Causal attention with grouped key-value heads and an optional sliding window, in tiles (FlashAttention-2, Dao 2023,
// arXiv 2307.08691).
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules attention;

}  // namespace lowrank
