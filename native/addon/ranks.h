// JavaScript interface to the processes that train together.
#pragma once

#include <napi.h>

namespace lowrank::addon {

/// Adds the functions to the addon's exports.
void define_ranks(Napi::Env env, Napi::Object exports);

}  // namespace lowrank::addon
