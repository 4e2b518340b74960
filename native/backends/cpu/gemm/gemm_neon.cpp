// The matrix kernels for Advanced SIMD (NEON), which every AArch64 processor has. A product asked for in bf16 is
// computed in fp32 here: without bf16 arithmetic, rounding the operands would cost time and buy nothing.
#include "backends/cpu/gemm/gemm.h"
#include "backends/cpu/gemm/gemm_plan.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <vector>

namespace lowrank::cpu {
namespace neon {
namespace {

// 20 of 32 registers hold a tile of 5 rows by 16 columns, next to a row of weights and the activations: with a sixth
// row GCC keeps some of the sums in memory.
inline constexpr int kFp32PanelVectors = 1, kFp32TileRows = 5;
inline constexpr int kFp32Steps = 1;
#define LOWRANK_GEMM_BF16 0

#include "backends/cpu/gemm/gemm_vector_neon.inl"

#include "backends/cpu/gemm/gemm_level_f32.inl"

}  // namespace
}  // namespace neon

constinit const Table gemm_neon = neon::runs;

}  // namespace lowrank::cpu

#endif
