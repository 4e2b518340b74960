// Instruction-set levels of this machine, and the choice among them.
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "backends/cpu/kernels.h"
#include "core/error.h"
#include "core/processor.h"
#include "os/arm_processor.h"
#include "os/tile_registers.h"

namespace lowrank::cpu {
namespace {

struct Entry {
  const char* name;
  bool available;
  Kernels kernels;
};

/// The reference's kernels, and in their place those of each table in turn.
[[maybe_unused]] Table joined(std::initializer_list<const Table*> tables) {
  Table all = table_reference;
  for (const Table* const table : tables)
    for (size_t i = 0; i < all.size(); ++i)
      if ((*table)[i] != nullptr) all[i] = (*table)[i];
  return all;
}

const Entry* entries() {
  static const Kernels reference = {Level::reference, table_reference};
#if defined(__x86_64__)
  const InstructionSets& sets = instruction_sets();
  static const bool amx = sets.avx512bf16 && sets.amx && os::request_tile_registers();
  static const Entry table[] = {
      {"reference", true, reference},
      {"neon", false, reference},
      {"neonbf16", false, reference},
      {"avx2", sets.avx2, {Level::avx2, joined({&table_avx2, &gemm_avx2})}},
      {"avx512", sets.avx512, {Level::avx512, joined({&table_avx512, &gemm_avx512})}},
      {"avx512bf16", sets.avx512bf16, {Level::avx512bf16, joined({&table_avx512bf16, &gemm_avx512, &gemm_avx512bf16})}},
      {"amx", amx, {Level::amx, joined({&table_avx512bf16, &table_amx, &gemm_avx512, &gemm_avx512bf16, &gemm_amx})}},
  };
#else
#if defined(__aarch64__)
  static const Entry neon = {"neon", true, {Level::neon, joined({&table_neon, &gemm_neon})}};
  static const Entry neonbf16 = {
      "neonbf16", os::multiplies_bf16(), {Level::neonbf16, joined({&table_neonbf16, &gemm_neon, &gemm_neonbf16})}};
#else
  static const Entry neon = {"neon", false, reference}, neonbf16 = {"neonbf16", false, reference};
#endif
  static const Entry table[] = {
      {"reference", true, reference},
      neon,
      neonbf16,
      {"avx2", false, reference},
      {"avx512", false, reference},
      {"avx512bf16", false, reference},
      {"amx", false, reference},
  };
#endif
  return table;
}

const Entry& entry(Level level) { return entries()[static_cast<int>(level)]; }

}  // namespace

const char* name_of(Level level) { return entry(level).name; }

bool available(Level level) { return entry(level).available; }

const Kernels& kernels(Level level) {
  if (!available(level)) {
    fail(
        "UNSUPPORTED", "this machine does not support the instruction-set level '", name_of(level),
        "'; its best level is '",
        [] {
          const char* best = "reference";
          for (Level each : kLevels) {
            if (available(each)) best = name_of(each);
          }
          return best;
        }(),
        "'. Unset LOWRANK_ISA, or set it to that or a lower level");
  }
  return entry(level).kernels;
}

Level default_level() {
  const char* wanted = std::getenv("LOWRANK_ISA");
  Level best = Level::reference;
  std::string names;
  for (Level level : kLevels) {
    if (wanted != nullptr && name_of(level) == std::string(wanted)) return level;
    if (available(level)) best = level;
    names += (names.empty() ? "" : ", ") + std::string(name_of(level));
  }
  if (wanted != nullptr && *wanted != '\0') {
    fail("CONFIG", "LOWRANK_ISA is '", wanted, "', not an instruction-set level; expected one of ", names,
         ", or unset for the best level of this machine");
  }
  return best;
}

bool prefers_bf16(Level level) { return level == Level::neonbf16 || level >= Level::avx512bf16; }

}  // namespace lowrank::cpu
