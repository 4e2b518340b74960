// The type of the operands of matrix products; sums are fp32 either way.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace lowrank {

enum class Precision : uint8_t { f32, bf16 };

constexpr DType operand_of(Precision precision) { return precision == Precision::bf16 ? DType::bf16 : DType::f32; }

}  // namespace lowrank
