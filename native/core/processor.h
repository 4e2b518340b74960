// Instruction sets of x86 CPUs, queried from the CPU itself, since the compiler's builtin always answers "no" in shared
// libraries with some toolchains. All false on other CPUs.
#pragma once

namespace lowrank {

/// Sets that the CPU supports and whose registers the operating system saves.
struct InstructionSets {
  bool avx2 = false;        // with FMA and F16C
  bool avx512 = false;      // F, BW, DQ and VL, with `avx2`
  bool avx512bf16 = false;  // with `avx512`
  bool amx = false;         // tiles and their bf16 products; a process may have to request permission first
};

const InstructionSets& instruction_sets();

}  // namespace lowrank
