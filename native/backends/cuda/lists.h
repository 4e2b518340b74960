// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include "kernel.h"

namespace lowrank::cuda {

enum class Activation : int32_t { silu, gelu, sigmoid, relu2 };

}  // namespace lowrank::cuda
