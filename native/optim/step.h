// One optimizer step over an adapter's span, in the order shared by all strategies: regularize, clip, project, update,
// track importances, zero.
#pragma once

#include <cstdint>
#include <vector>

#include "adapters/adapter.h"
#include "core/boundary.h"
#include "device/device.h"
#include "optim/ranks.h"

namespace lowrank {

/// Adds the gradients of regularizers, clips by the global norm (double accumulation), updates every trained parameter
/// with its group's settings, tracks importances, and zeroes the gradients; returns the norm before clipping. Throws
/// "DIVERGED" if the norm is not finite, leaving parameters unchanged and gradients zeroed, and as `check_step`.
double optimizer_step(Device& device, Adapter& adapter, const OptimizerStep& options);

/// Sums of squares of the gradients of the trained parameters, in their order.
std::vector<double> gradient_squares(Device& device, const Adapter& adapter);

/// The same step in parts, in any order, while gradients come and go: `check_step`, then `update_parameter` once per
/// trained parameter; the norm is the root of the sum of the returned values, in parameter order. There is no clipping,
/// since the norm is not known yet. The caller zeroes gradients and reports changed values. Returns the sum of the
/// gradient's squares. Throws "DIVERGED" if it is not finite, with this parameter unchanged.
double update_parameter(Device& device, Adapter& adapter, const OptimizerStep& options, int parameter);

/// Throws "CONFIG" for an adapter that is not trained, a step below 1, a group without settings, and an adapter with
/// another optimizer's state.
void check_step(const AdapterSpec& spec, const OptimizerStep& options);

}  // namespace lowrank
