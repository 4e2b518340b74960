// One optimizer step over an adapter's span, in the order that all strategies agree on: regularize, clip,
// project, update, follow importances, zero.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "adapters/adapter.h"
#include "device/device.h"
#include "optim/ranks.h"

namespace lowrank {

/// Settings that the parameters of one group share.
struct GroupSettings {
  float learning_rate = 0;
  float weight_decay = 0;
};

struct OptimizerStep {
  OptimizerKind kind = OptimizerKind::adamw;
  float beta1 = 0, beta2 = 0, epsilon = 0;  // of SGD, beta1 is the momentum
  AdafactorSettings adafactor;
  double max_grad_norm = 0;  // 0 or less: off
  int64_t step = 0;          // from 1
  std::vector<GroupSettings> groups;  // by ParameterSpec::group
  std::optional<RankDraws> ranks;     // only ranks that got a gradient move; absent: all
};

/// Adds the gradients of regularizers, clips by the global norm (double accumulation), updates every trained parameter
/// at its group's settings, follows importances and zeroes the gradients; returns the norm before clipping. Throws
/// "DIVERGED", with no parameter updated and the gradients zeroed, when the norm is not finite, and as `check_step`.
double optimizer_step(Device& device, Adapter& adapter, const OptimizerStep& options);

/// The same step in parts, in any order, while gradients come and go: `check_step`, then `update_parameter` once for each
/// trained parameter, and the root of the sum of what it returned, in the order of parameters, is the norm. Nothing is
/// clipped, for nobody knows the norm yet. To zero gradients and to say that values changed is the caller's.
/// Returns the sum of the gradient's squares. Throws "DIVERGED", with this parameter not updated, when it is not finite.
double update_parameter(Device& device, Adapter& adapter, const OptimizerStep& options, int parameter);

/// Throws "CONFIG" for an adapter that does not train, a step before the first, a group without settings, and an adapter
/// with another optimizer's state.
void check_step(const AdapterSpec& spec, const OptimizerStep& options);

}  // namespace lowrank
