// The head: logits of some rows, or their loss and, in training, its gradient at the head's input, made in the forward
// pass where the logits are. Logits are formed for some rows at a time and never all at once.
#pragma once

#include "plan/op.h"

namespace lowrank {

extern const OpRules lm_head;

}  // namespace lowrank
