#include "backends/cpu/table.h"

namespace lowrank::cpu {
namespace {

template <class K>
void entry(const Cpu& cpu, const void* k) {
  reference(cpu, *static_cast<const K*>(k));
}

}  // namespace

#define LOWRANK_ENTRY(K) entry<K>,
constinit const Table table_reference = {LOWRANK_KERNELS(LOWRANK_ENTRY)};
#undef LOWRANK_ENTRY

}  // namespace lowrank::cpu
