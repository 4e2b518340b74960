// Which instruction-set levels this machine can run, and the choice among them.
#include <cstdlib>
#include <string>

#include "backends/cpu/kernels.h"
#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lowrank::cpu {
namespace {

#if defined(__x86_64__)
// Asked of the processor itself: __builtin_cpu_supports of older clangs does not know the names of these two.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}
bool has_avx512bf16() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 5 & 1) != 0;
}

// Tile registers are off until the process asks for them (Linux 5.16 and later); the permission then holds for every
// thread. Asking again is harmless, refusing is the kernel's right: the level is then not available.
bool request_amx() {
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool tiles = (edx >> 24 & 1) != 0;
  const bool bf16 = (edx >> 22 & 1) != 0;
  return tiles && bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

struct Entry {
  const char* name;
  bool available;
  Kernels kernels;
};

const Entry* entries() {
  static const Kernels reference = {Level::reference, gemm_reference, ops_reference};
#if defined(__x86_64__)
  // The builtin also checks that the operating system saves the wide registers.
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const bool avx512bf16 = avx512 && has_avx512bf16();
  static const bool amx = avx512bf16 && request_amx();
  static const Entry table[] = {
      {"reference", true, reference},
      {"neon", false, reference},
      {"avx2", avx2, {Level::avx2, gemm_avx2, ops_avx2}},
      {"avx512", avx512, {Level::avx512, gemm_avx512, ops_avx512}},
      {"avx512bf16", avx512bf16, {Level::avx512bf16, gemm_avx512bf16, ops_avx512bf16}},
      {"amx", amx, {Level::amx, gemm_amx, ops_amx}},
  };
#else
#if defined(__aarch64__)
  static const Entry neon = {"neon", true, {Level::neon, gemm_neon, ops_neon}};
#else
  static const Entry neon = {"neon", false, reference};
#endif
  static const Entry table[] = {
      {"reference", true, reference},
      neon,
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
    fail("UNSUPPORTED", "the instruction-set level '", name_of(level), "' cannot run on this machine; its best level is '",
         [] {
           const char* best = "reference";
           for (Level each : kLevels) {
             if (available(each)) best = name_of(each);
           }
           return best;
         }(),
         "': unset LOWRANK_ISA or set it to that or a lower level");
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
    fail("CONFIG", "LOWRANK_ISA is '", wanted, "', which is no instruction-set level; expected one of ", names,
         ", or leave it unset for the best this machine has");
  }
  return best;
}

bool prefers_bf16(Level level) { return level >= Level::avx512bf16; }

}  // namespace lowrank::cpu
