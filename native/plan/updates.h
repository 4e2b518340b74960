// Updates in the backward pass: each parameter's gradient lives from the first step that adds to it to its update, which
// comes once nothing of the pass adds to it or reads its value any more.
#pragma once

#include "plan/plan.h"

namespace lowrank {

/// Puts into a training plan a buffer for the gradient of every trained parameter, the steps that begin it at zero, and
/// those that update the parameter. One that nothing adds to is updated last, by a gradient of zero.
void place_updates(const AdapterSpec& adapter, Plan& plan);

}  // namespace lowrank
