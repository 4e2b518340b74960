// Kernels of the CPU. Each takes its struct (native/kernels), and is written once as its definition reads, `reference`,
// and for levels of instruction sets as `run` in an .inl that is compiled for each. A table has kernels by their
// index in the list, and is filled by overload resolution: nobody keeps it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <type_traits>

#include "core/pool.h"
#include "kernels/list.h"

namespace lowrank {
class WeightStore;
struct WeightView;
}  // namespace lowrank

namespace lowrank::cpu {

/// The memory of an address, and back.
template <class T>
T* host(Ptr<T> at) {
  return reinterpret_cast<T*>(at.address());
}
template <class T>
Ptr<T> address_of(const T* at) {
  return Ptr<T>(reinterpret_cast<uint64_t>(at));
}

/// Threads, workspace, and base weights of a kernel.
struct Cpu {
  Pool& pool;
  std::byte* room;  // 64-byte aligned, as many bytes as its `workspace` says, whose contents do not matter
  const WeightStore* weights = nullptr;
};
/// Rows of a base weight, or fp32 values.
WeightView view(const Cpu& cpu, const Factor& w);

/// @param kernel of the type that the entry's index stands for
using Run = void (*)(const Cpu& cpu, const void* kernel);
/// By a kernel's index; null: another table has it.
using Table = std::array<Run, kKernels>;

// Declared for all kernels of the list. Hidden, since a shared library would link without one that is missing.
#if !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif
#define LOWRANK_REFERENCE(K) void reference(const Cpu& cpu, const K& k);
LOWRANK_KERNELS(LOWRANK_REFERENCE)
#undef LOWRANK_REFERENCE
/// Bytes of room, the same at all levels.
#define LOWRANK_WORKSPACE(K) int64_t workspace(const K& k, int threads);
LOWRANK_KERNELS_WITH_ROOM(LOWRANK_WORKSPACE)
#undef LOWRANK_WORKSPACE
#if !defined(_WIN32)
#pragma GCC visibility pop
#endif

extern const Table table_reference;
// Kernels that each level has of its own: products with stored weights in the tables gemm_*, the others in table_*. AMX
// has entries beside those of AVX-512 with bf16, and a level with bf16 has products beside those of the level without.
extern const Table table_neon, table_neonbf16, table_avx2, table_avx512, table_avx512bf16, table_amx;
extern const Table gemm_neon, gemm_neonbf16, gemm_avx2, gemm_avx512, gemm_avx512bf16, gemm_amx;

/// A kernel's place in the list.
template <class K>
constexpr size_t index_of() {
#define LOWRANK_IS(Other) std::is_same_v<K, Other>,
  constexpr bool is[] = {LOWRANK_KERNELS(LOWRANK_IS)};
#undef LOWRANK_IS
  return static_cast<size_t>(std::find(std::begin(is), std::end(is), true) - std::begin(is));
}
/// Runs the kernel that another level has.
template <class K>
void run_of(const Table& level, const Cpu& cpu, const K& k) {
  level[index_of<K>()](cpu, &k);
}

}  // namespace lowrank::cpu
