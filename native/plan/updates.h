// Updates in the backward pass: each parameter's gradient lives from the first step that adds to it until its update,
// which happens once no later step adds to it or reads the parameter.
#pragma once

#include "plan/plan.h"

namespace lowrank {

/// Adds to a training plan a gradient buffer for every trained parameter, and the steps that zero it and update the
/// parameter. A parameter that no step adds to is updated last, with a zero gradient.
void place_updates(const AdapterSpec& adapter, Plan& plan);

}  // namespace lowrank
