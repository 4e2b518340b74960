// The optimiser's step of an adapter that trains a number of ranks drawn anew for each step: rank j is row j of A and
// column j of B, and has a count of updates of its own. Ranks without a gradient stay as they are, bit for bit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "adapters/adapter.h"
#include "backends/cpu/ops.h"
#include "runtime/engine.h"

namespace lowrank {

struct RankDraws {
  int64_t active = 0;          // ranks in use in this step
  bool last_only = false;      // of those, only the last gets gradients
  std::vector<int64_t> draws;  // draws[b - 1]: steps so far with b ranks in use, this one included

  /// Ranks [first, end) of a slot with `rank` of them that got gradients in this step.
  struct Range {
    int64_t first, end;
  };
  Range updated(int64_t rank) const;
  /// Steps so far in which rank `index`, from 0, of a slot with `rank` ranks got a gradient. A slot with fewer ranks
  /// than are drawn uses all it has.
  int64_t count(int64_t index, int64_t rank) const;
};

/// AdamW's settings of an optimiser group at a count of updates.
using SettingsOf = std::function<cpu::AdamW(int group, int64_t step)>;

/// AdamW on the rows of A and the columns of B that got gradients, each rank with its own count for the bias correction;
/// moments and weight decay of the others do not advance. With all ranks in every step it is AdamW, bit for bit.
/// Throws Error("CONFIG") for an adapter that trains anything but A and B of slots of their own.
void update_ranks(Context& context, Adapter& adapter, const RankDraws& ranks, const SettingsOf& settings);

}  // namespace lowrank
