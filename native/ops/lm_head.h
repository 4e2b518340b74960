// The head: logits of selected rows, or their loss and, in training, its gradient at the head's input, computed in the
// forward pass while the logits exist. Logits are computed for a few rows at a time, never all at once.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules lm_head;

}  // namespace lowrank
