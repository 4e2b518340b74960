#include "backends/cpu/table.h"

namespace lowrank::cpu {
namespace {

template <class K>
void entry(const Cpu& cpu, const void* k) {
  reference(cpu, *static_cast<const K*>(k));
}
/// Null for kernels that have not moved.
template <class K>
constexpr Run entry_of() {
  if constexpr (requires(const Cpu& cpu, const K& k) { reference(cpu, k); }) return entry<K>;
  return nullptr;
}

}  // namespace

#define LOWRANK_ENTRY(K) entry_of<K>(),
constinit const Table table_reference = {LOWRANK_KERNELS(LOWRANK_ENTRY)};
#undef LOWRANK_ENTRY

}  // namespace lowrank::cpu
