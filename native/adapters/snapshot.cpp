#include "adapters/snapshot.h"

#include "core/factors.h"

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
  const SnapshotB factors{slot.rank, own, taken, adapter.data(slot.b), adapter.data(slot.snapshot_b), nullptr};
  fold_snapshot_rows(factors, 0, rows, out);
}

}  // namespace lowrank
