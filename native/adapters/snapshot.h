// Slots with a snapshot: scale ((1 + ratio) B A - ratio B* A*), Delta-LoRA's weight (arXiv 2309.02411) with the sum
// over its steps carried out. A* and B* are A and B as they once were; until they are taken the ratio is 0, and the
// slot is that of a LoRA. One that subtracts is scale (B A - ratio B* A*): with the ratio 1, an adapter that starts
// from a part of the weight, which PiSSA (arXiv 2404.02948) takes out of the weight itself.
#pragma once

#include <cstdint>

#include "adapters/adapter.h"

namespace lowrank {

/// The ratio in force; 0 for a slot without a snapshot.
float snapshot_ratio(const Adapter& adapter, const LowRankSlot& slot);

/// What B A counts for beside it.
float snapshot_own(const Adapter& adapter, const LowRankSlot& slot);

/// The folded matrix [rows, 2 rank]: scale * snapshot_own B and - scale * ratio B*, side by side.
void fold_snapshot(const Adapter& adapter, const LowRankSlot& slot, float* out);

}  // namespace lowrank
