// Runs a session's training step on a device that does not compute, to count its work.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "device/null.h"
#include "plan/plan.h"
#include "weights/weights.h"

namespace lowrank {

/// The base as stored in a session.
std::vector<NullDevice::HeldWeight> held_weights(const Graph& graph, const std::vector<StorageFormat>& formats);

/// The work of a micro-batch, and of the optimizer's update after the last one; the latter is absent if updates are
/// made in the backward pass, or without training.
struct DryRun {
  NullDevice::Counts micro_batch;
  std::optional<NullDevice::Counts> update;
};

/// Runs one plan of a session, for training or evaluation. The micro-batch has full size, each head row has a label,
/// and cached values of base rows are valid, as after the first step.
/// @param adapters of which a training plan has one
/// @param plans of a session without loaded weights
DryRun dry_run(const Graph& graph, const std::vector<AdapterSpec>& adapters,
               const std::map<std::string, PlanOptions>& plans, const std::string& name, NullDevice& device);

}  // namespace lowrank
