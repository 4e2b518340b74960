// The operand type of matrix products; sums are always fp32.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/lists.h"

namespace lowrank {

constexpr DType operand_of(Precision precision) { return precision == Precision::bf16 ? DType::bf16 : DType::f32; }

}  // namespace lowrank
