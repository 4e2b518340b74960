// The optimizer's step of an adapter that trains a number of ranks drawn anew for each step: rank j is row j of A and
// column j of B, and has a count of updates of its own. Ranks without a gradient stay as they are, bit for bit.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "adapters/adapter.h"
#include "core/context.h"

namespace lowrank {

/// Which ranks a step trains.
struct TrainedRanks {
  int64_t active = 0;      // ranks in use, from the first; 0: all
  bool last_only = false;  // of those, only the last gets gradients

  /// Ranks [first, end) of a slot with `rank` of them that get gradients.
  struct Range {
    int64_t first, end;
  };
  Range of(int64_t rank) const;
};

struct RankDraws : TrainedRanks {
  std::vector<int64_t> draws;  // draws[b - 1]: steps so far with b ranks in use, this one included

  /// Steps so far in which rank `index`, from 0, of a slot with `rank` ranks got a gradient. A slot with fewer ranks
  /// than are drawn uses all it has.
  int64_t count(int64_t index, int64_t rank) const;
};

/// Updates `count` numbers p of an optimizer group that are updated for the `step`-th time, with their gradient and the
/// arrays of their state.
using UpdateRule = std::function<void(int group, int64_t step, int64_t count, const float* gradient,
                                      const std::vector<StateView>& state, float* p)>;

/// The rule on the rows of A and the columns of B that got gradients, each rank with its own count for the bias correction;
/// state and weight decay of the others do not advance. With all ranks in every step it is the rule itself, bit for bit.
/// Copies of weights are left to the caller. With `only`, that parameter alone is updated. Throws Error("CONFIG") for state
/// that is not in memory.
void update_ranks(Context& context, Adapter& adapter, const RankDraws& ranks, const UpdateRule& update, int only = -1);

/// Throws Error("CONFIG") for an adapter that trains anything but copies of weights and A and B of slots of their own, for
/// state in which ranks are not apart, and for counts that are none.
void check_ranks(const AdapterSpec& spec, const RankDraws& ranks);

}  // namespace lowrank
