// A micro-batch of full size through a plan on a device that computes nothing, for what that device counts.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "device/null.h"
#include "plan/plan.h"
#include "runtime/weights.h"

namespace lowrank {

/// The base as a session holds it.
std::vector<NullDevice::HeldWeight> held_weights(const Graph& graph, const std::vector<StorageFormat>& formats);

/// Runs the named one of a session's plans, which is for training or evaluation, as a session does. Each of the head's
/// rows has a label; what adapters keep of the base's rows holds, as after the first step.
void dry_run(const Graph& graph, const std::vector<const AdapterSpec*>& adapters,
             const std::map<std::string, Plan>& plans, const std::string& name, Device& device);

}  // namespace lowrank
