// The processes that train together, as JavaScript sees them.
#pragma once

#include <napi.h>

namespace lowrank::addon {

/// Adds the calls to what the addon exports.
void define_ranks(Napi::Env env, Napi::Object exports);

}  // namespace lowrank::addon
