// Converts the plain objects of lib/ to native structures, and back.
#pragma once

#include <napi.h>

#include "adapters/adapter.h"
#include "addon/fields.h"
#include "device/null.h"
#include "optim/ranks.h"
#include "runtime/dry_run.h"
#include "runtime/sampling.h"
#include "runtime/session.h"

namespace lowrank::addon {

Graph to_graph(Napi::Value value);
AdapterSpec to_adapter_spec(Napi::Value value);
/// Optimizer kinds by name.
OptimizerKind to_optimizer_kind(const Fields& fields);
/// The `state` field; AdamW's by default.
StateSpec to_state_spec(const Fields& fields);
OptimizerStep to_optimizer_step(Napi::Value value);
StorageFormat to_storage_format(Napi::Value value);
/// Order of value heads in a file, if given as `headOrder`.
HeadOrder to_head_order(const Fields& fields);
TensorSource to_tensor_source(Napi::Value value);
/// Plans by name.
std::map<std::string, PlanOptions> to_plans(Napi::Value value);
MicroBatch to_micro_batch(const Fields& fields);
/// `active` and `lastOnly`, both optional.
TrainedRanks to_trained_ranks(const Fields& fields);
/// Divisor of the logits; default 1.
float to_temperature(const Fields& fields);
TrainInput to_train_input(Napi::Value value);
ForwardInput to_forward_input(const Fields& fields);
std::optional<Sampling> to_sampling(const Fields& fields);
Precision to_precision(const Fields& fields);
/// The timeline is computed on access.
Napi::Value from_report(Napi::Env env, PlanReport report);
/// The work of a step, with an entry for every kernel.
Napi::Value from_dry_run(Napi::Env env, const DryRun& run);

}  // namespace lowrank::addon
