// A session's training step on a device that computes nothing, for what that device counts.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "device/null.h"
#include "plan/plan.h"
#include "weights/weights.h"

namespace lowrank {

/// The base as a session holds it.
std::vector<NullDevice::HeldWeight> held_weights(const Graph& graph, const std::vector<StorageFormat>& formats);

/// The work of a micro-batch, and of the optimizer's update after the last one; none where gradients are used up by
/// updates in the backward pass, or there is no training.
struct DryRun {
  NullDevice::Counts micro_batch;
  std::optional<NullDevice::Counts> update;
};

/// Runs the named one of a session's plans, which is for training or evaluation. The micro-batch is of full size, and
/// each of the head's rows has a label; what adapters keep of the base's rows holds, as after the first step.
/// @param adapters of which a training plan has one
/// @param plans of a session, none of whose weights are loaded
DryRun dry_run(const Graph& graph, const std::vector<AdapterSpec>& adapters,
               const std::map<std::string, PlanOptions>& plans, const std::string& name, NullDevice& device);

}  // namespace lowrank
