// The arithmetic peak of a level: what its kernels could reach if nothing but their multiply-adds took time.
#pragma once

#include "backends/cpu/kernels.h"

namespace lowrank::cpu {

/// Multiplies and adds for a few milliseconds on the calling thread, operands in registers; returns how many operations
/// that were, a multiply-add being two.
using PeakLoop = double (*)();

/// The loop of the widest multiply-adds that a level has for operands of a precision; null for plain loops, whose width
/// is the compiler's choice. The level must be one that this machine can run.
PeakLoop peak_loop(Level level, Precision precision);

}  // namespace lowrank::cpu
