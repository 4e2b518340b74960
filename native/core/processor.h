// Instruction sets of x86 processors, asked of the processor itself: the compiler's builtin answers "no" to everything in
// shared libraries of some toolchains. All false on other processors.
#pragma once

namespace lowrank {

/// Sets that the processor has and whose registers the operating system saves.
struct InstructionSets {
  bool avx2 = false;        // with FMA and F16C
  bool avx512 = false;      // F, BW, DQ and VL, with `avx2`
  bool avx512bf16 = false;  // with `avx512`
  bool amx = false;         // tiles and their bf16 products; a process may have to ask before it uses them
};

const InstructionSets& instruction_sets();

}  // namespace lowrank
