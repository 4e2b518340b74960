// Instruction sets as the processor reports them.
#include "core/processor.h"

#include "check.h"

using namespace lowrank;

TEST("each instruction set comes with those that it builds on") {
  const InstructionSets& sets = instruction_sets();
  if (sets.avx512) CHECK(sets.avx2);
  if (sets.avx512bf16) CHECK(sets.avx512);
}

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
TEST("instruction sets are those that the compiler's own check finds") {
  const InstructionSets& sets = instruction_sets();
  CHECK_EQ(sets.avx2,
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"));
  CHECK_EQ(sets.avx512, sets.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
  CHECK_EQ(sets.avx512bf16, sets.avx512 && __builtin_cpu_supports("avx512bf16"));
}
#endif
