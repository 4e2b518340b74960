// Converts the plain objects of lib/ to native structures, and back.
#pragma once

#include <napi.h>

#include "adapters/adapter.h"
#include "addon/fields.h"
#include "runtime/dry_run.h"
#include "runtime/session.h"

namespace lowrank::addon {

Graph to_graph(Napi::Value value);
AdapterSpec to_adapter_spec(Napi::Value value);
/// Order of value heads in a file, if given as `headOrder`.
HeadOrder to_head_order(const Fields& fields);
TensorSource to_tensor_source(Napi::Value value);
/// Plans by name.
std::map<std::string, PlanOptions> to_plans(Napi::Value value);
/// The timeline is computed on access.
Napi::Value from_report(Napi::Env env, PlanReport report);
/// The work of a step, with an entry for every kernel.
Napi::Value from_dry_run(Napi::Env env, const DryRun& run);

}  // namespace lowrank::addon
