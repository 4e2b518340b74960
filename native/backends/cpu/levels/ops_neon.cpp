// The operators compiled for Advanced SIMD (NEON).
#if defined(__aarch64__)

#include "backends/cpu/levels/ops_simd.h"

#define LOWRANK_VEC_BF16 0
namespace lowrank::cpu {
namespace neon {
namespace {
// clang-format off: each of these builds on those before it
#include "backends/cpu/levels/vec_neon.h"
#include "backends/cpu/levels/vec_math.inl"
#include "backends/cpu/levels/ops_simd.inl"
// clang-format on
}  // namespace
}  // namespace neon

constinit const Table table_neon = neon::runs;
}  // namespace lowrank::cpu
#endif  // __aarch64__
