// The kernel tables of the CPU backend, one per instruction-set level, chosen once at run time. `reference` is plain
// loops: what every other level is tested against, and what LOWRANK_CHECK compares with.
#pragma once

#include <cstdint>

#include "backends/cpu/table.h"

namespace lowrank::cpu {

enum class Level : uint8_t { reference, neon, neonbf16, avx2, avx512, avx512bf16, amx };
inline constexpr Level kLevels[] = {Level::reference, Level::neon,       Level::neonbf16, Level::avx2,
                                    Level::avx512,    Level::avx512bf16, Level::amx};

struct Kernels {
  Level level;
  Table table;  // of all kernels
};

const char* name_of(Level level);
/// True if this machine (and its operating system) can run a level.
bool available(Level level);
/// The table of a level; throws Error("UNSUPPORTED") when the machine cannot run it.
const Kernels& kernels(Level level);
/// The best level of this machine, or the one LOWRANK_ISA names.
Level default_level();
/// bf16 operands only pay where the CPU has bf16 dot products.
bool prefers_bf16(Level level);

}  // namespace lowrank::cpu
