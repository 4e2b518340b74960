#include "core/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#endif

namespace lowrank {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// All zero where the processor does not know the leaf.
Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers out;
  (void)__get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
  return out;
}

bool bit(unsigned bits, int index) { return (bits >> index & 1) != 0; }

/// XCR0, whose bits say which registers the operating system saves; 0 where it saves none beyond the oldest.
uint64_t saved_registers() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Bits of Intel's manual, volume 1, chapter 13 (XCR0), and volume 2 (CPUID).
InstructionSets detect() {
  constexpr uint64_t kVectors = 1u << 1 | 1u << 2;                           // SSE, AVX
  constexpr uint64_t kWideVectors = kVectors | 1u << 5 | 1u << 6 | 1u << 7;  // masks, upper halves, registers 16 to 31
  constexpr uint64_t kTiles = 1u << 17 | 1u << 18;                           // configuration and data
  const uint64_t saved = saved_registers();
  const auto saves = [&](uint64_t parts) { return (saved & parts) == parts; };
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), more = cpuid(7, 1);
  InstructionSets sets;
  sets.avx2 = saves(kVectors) && bit(seven.ebx, 5) && bit(one.ecx, 12) && bit(one.ecx, 29);
  sets.avx512 = sets.avx2 && saves(kWideVectors) && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) &&
                bit(seven.ebx, 31);
  sets.avx512bf16 = sets.avx512 && bit(more.eax, 5);
  sets.amx = saves(kTiles) && bit(seven.edx, 24) && bit(seven.edx, 22);
  return sets;
}

#else

InstructionSets detect() { return {}; }

#endif

}  // namespace

const InstructionSets& instruction_sets() {
  static const InstructionSets sets = detect();
  return sets;
}

}  // namespace lowrank
