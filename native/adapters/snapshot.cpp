#include "adapters/snapshot.h"

#include "backends/cpu/adapters.h"
#include "backends/cpu/device.h"

namespace lowrank {

float snapshot_ratio(const Adapter& adapter, const LowRankSlot& slot) {
  return slot.has_snapshot() ? *adapter.data(slot.snapshot_ratio) : 0;
}

float snapshot_own(const Adapter& adapter, const LowRankSlot& slot) {
  return slot.subtracts ? 1 : 1 + snapshot_ratio(adapter, slot);
}

void fold_snapshot(const Adapter& adapter, const LowRankSlot& slot, float* out) {
  const int64_t rows = adapter.spec().parameters[slot.b].rows;
  const float own = slot.scale * snapshot_own(adapter, slot), taken = -slot.scale * snapshot_ratio(adapter, slot);
  cpu::fold_snapshot({rows,
                      slot.rank,
                      own,
                      taken,
                      cpu::address_of(adapter.data(slot.b)),
                      cpu::address_of(adapter.data(slot.snapshot_b)),
                      {},
                      cpu::address_of(out)},
                     0, rows);
}

}  // namespace lowrank
