#include "adapters/snapshot.h"

namespace lowrank {

float snapshot_ratio(const Adapter& adapter, const LowRankSlot& slot) {
  return slot.has_snapshot() ? *adapter.data(slot.snapshot_ratio) : 0;
}

float snapshot_own(const Adapter& adapter, const LowRankSlot& slot) {
  return slot.subtracts ? 1 : 1 + snapshot_ratio(adapter, slot);
}

void fold_snapshot(const Adapter& adapter, const LowRankSlot& slot, int64_t begin, int64_t end, float* out,
                   float weight, const float* row_gains) {
  const float own = weight * slot.scale * snapshot_own(adapter, slot);
  const float taken = -weight * slot.scale * snapshot_ratio(adapter, slot);
  const float* const b = adapter.data(slot.b);
  const float* const star = adapter.data(slot.snapshot_b);
  for (int64_t i = begin; i < end; ++i) {
    float* const to = out + 2 * i * slot.rank;
    const float gain = row_gains ? row_gains[i] : 1;
    for (int64_t j = 0; j < slot.rank; ++j) {
      to[j] = gain * own * b[i * slot.rank + j];
      to[slot.rank + j] = gain * taken * star[i * slot.rank + j];
    }
  }
}

}  // namespace lowrank
