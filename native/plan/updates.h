// Updates in the backward pass: each parameter's gradient lives from the first step that adds to it to its update, which
// comes once nothing of the pass adds to it or reads its value any more.
#pragma once

#include <vector>

#include "plan/plan.h"

namespace lowrank {

/// Trained parameters whose values or gradients a step may touch, ascending.
std::vector<int> parameters_touched(const Graph& graph, const Plan& plan, const AdapterSpec& adapter, const Step& step);

/// Of those, the ones whose gradients it adds to.
std::vector<int> gradients_added(const Graph& graph, const Plan& plan, const AdapterSpec& adapter, const Step& step);

/// Puts into a training plan a buffer for the gradient of every trained parameter, the steps that begin it at zero, and
/// those that update the parameter. One that nothing adds to is updated last, by a gradient of zero.
void place_updates(const Graph& graph, const AdapterSpec& adapter, Plan& plan);

}  // namespace lowrank
